"""The builders' code: found, packed, and laid out below a bundle, whatever brings it."""

from __future__ import annotations

import io
import os
import shutil
import stat
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.bundles.base import BaseDagBundle, BundleVersion

from dagfactory_consul.codebase import MAX_BYTES, Code, Codebase, sources_at
from dagfactory_consul.errors import SettingsError, SnapshotError
from dagfactory_consul.manifest import reference
from tests.making import write


class Snapshots(BaseDagBundle):
    """A bundle with versions: folders below one, of which `now` names the present one."""

    supports_versioning = True

    def __init__(self, *, folder: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.folder = Path(folder)

    @property
    def path(self) -> Path:
        return self.folder / (self.version or (self.folder / "now").read_text())

    def get_current_version(self) -> BundleVersion:
        return BundleVersion(self.version or (self.folder / "now").read_text())

    def refresh(self) -> None:
        if self.version is not None:
            raise AssertionError("a pinned version is not refreshed")


HERE = f"{__name__}.Snapshots"
LOCAL = "airflow.dag_processing.bundles.local.LocalDagBundle"


def codebase(*builders: object, inner: dict[str, Any] | None = None) -> Codebase:
    return Codebase(tuple(map(str, builders)), inner, name="tenants", interval=0.0)


def laid_out(code: Codebase, bundle: Path) -> dict[str, str]:
    """Return the files of the present version below a bundle."""
    current = code.current()
    code.lay_out(current, bundle, code.archive)
    root = bundle / (current.folder or "none")
    return {str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture
def builders(tmp_path: Path) -> Path:
    """A folder of builders."""
    write(tmp_path / "builders/job.py", "one = 1\n")
    write(tmp_path / "builders/below/data.sql", "select 1\n")
    return tmp_path / "builders"


def test_a_folder_is_copied_with_all_in_it(builders: Path, tmp_path: Path) -> None:
    """All files are part of the code, those that are no Python too, under the folder's own name."""
    code = codebase(builders)
    assert laid_out(code, tmp_path / "bundle") == {
        "0/builders/below/data.sql": "select 1\n",
        "0/builders/job.py": "one = 1\n",
    }
    assert code.current().sources == ("./0/builders",)
    sources, root = sources_at(code.current(), tmp_path / "bundle")
    assert Path(sources[0]) == root / "0/builders"


def test_several_sources(builders: Path, tmp_path: Path) -> None:
    """Folders of one name, a single file, and an installed module stand beside each other."""
    other = write(tmp_path / "other/builders/job.py", "two = 2\n")
    code = codebase(builders, other.parent, other, "json.tool")
    assert set(laid_out(code, tmp_path / "bundle")) == {
        "0/builders/below/data.sql",
        "0/builders/job.py",
        "1/builders/job.py",
        "2/job.py",
    }
    assert code.current().sources == ("./0/builders", "./1/builders", "./2/job.py", "json.tool")


def test_installed_modules_alone_have_no_folder(tmp_path: Path) -> None:
    """What is installed is the environment's: there is nothing to copy, and no name."""
    code = codebase("json", "json.tool")
    assert code.current() == Code(None, ("json", "json.tool"))
    assert laid_out(code, tmp_path / "bundle") == {}


def test_equal_files_have_one_name_everywhere(builders: Path, tmp_path: Path) -> None:
    """The name is the contents', whenever they were written and wherever they lie."""
    shutil.copytree(builders, tmp_path / "elsewhere/builders")
    os.utime(builders / "job.py", (1, 1))
    assert codebase(builders).current() == codebase(tmp_path / "elsewhere/builders").current()


@pytest.mark.parametrize("change", ["edit", "add", "remove", "rename", "swap"])
def test_a_change_gives_another_name(builders: Path, change: str) -> None:
    """An edit of equal size, a new file, one that is gone, another name, two that change places."""
    code = codebase(builders)
    before = code.current().name
    if change == "edit":
        write(builders / "job.py", "one = 2\n")
    elif change == "add":
        write(builders / "new.py", "")
    elif change == "remove":
        (builders / "below/data.sql").unlink()
    elif change == "rename":
        (builders / "job.py").rename(builders / "jobs.py")
    else:
        write(builders / "job.py", "select 1\n")
        write(builders / "below/data.sql", "one = 1\n")
    assert code.current().name != before
    assert code.current().name == codebase(builders).current().name


def test_what_tools_leave_is_no_code(builders: Path) -> None:
    """Compiled files, hidden files and folders, and editors' backups change nothing."""
    code = codebase(builders)
    before = code.current()
    for name in ("__pycache__/job.cpython-311.pyc", ".git/index", "job.py~", ".job.py.swp", "below/.DS_Store"):
        write(builders / name, "left behind")
    (builders / ".#job.py").symlink_to("somebody@host.1234")
    assert code.current() == before


def test_links_are_followed(builders: Path, tmp_path: Path) -> None:
    """A folder or a file behind a link is code; a link to nothing, or to a folder above, is none."""
    write(tmp_path / "shared/helpers.py", "helpers = 1\n")
    (builders / "shared").symlink_to(tmp_path / "shared")
    (builders / "linked.py").symlink_to(tmp_path / "shared/helpers.py")
    (builders / "loop").symlink_to(builders)
    (builders / "broken.py").symlink_to(tmp_path / "nowhere.py")
    link = tmp_path / "link"
    link.symlink_to(builders)
    found = laid_out(codebase(link), tmp_path / "bundle")
    assert set(found) == {f"0/link/{name}" for name in ("below/data.sql", "job.py", "linked.py", "shared/helpers.py")}
    assert not any(path.is_symlink() for path in (tmp_path / "bundle/code").rglob("*"))


def test_a_mounted_config_map(tmp_path: Path) -> None:
    """A ConfigMap is links to a hidden folder of another name at each change: what counts is what they lead to."""

    def mount(stamp: str) -> None:
        write(tmp_path / f"map/..{stamp}/job.py", "one = 1\n")
        (tmp_path / "map/..data").unlink(missing_ok=True)
        (tmp_path / "map/..data").symlink_to(f"..{stamp}")

    mount("2024")
    (tmp_path / "map/job.py").symlink_to("..data/job.py")
    code = codebase(tmp_path / "map")
    before = code.current()
    mount("2025")
    shutil.rmtree(tmp_path / "map/..2024")
    assert code.current() == before
    assert set(laid_out(code, tmp_path / "bundle")) == {"0/map/job.py"}


def test_the_archive_is_of_the_code_that_was_named(builders: Path, tmp_path: Path) -> None:
    """What changes after a look is in the next one: a name never stands for other files."""
    code = codebase(builders)
    before, archive = code.current(), code.archive
    write(builders / "job.py", "one = 2\n")
    code.lay_out(before, tmp_path / "bundle", archive)
    assert before.folder is not None
    assert (tmp_path / "bundle" / before.folder / "0/builders/job.py").read_text() == "one = 1\n"


def test_laid_out_twice_and_at_once(builders: Path, tmp_path: Path) -> None:
    """Code that stands there is left as it is, and of several that lay it out at once none fails or leaves anything."""
    code = codebase(builders)
    current, archive = code.current(), code.archive
    gate = threading.Barrier(8)

    def lay_out() -> None:
        gate.wait(10)
        code.lay_out(current, tmp_path / "bundle", archive)

    threads = [threading.Thread(target=lay_out) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    before = {path: path.stat().st_ino for path in (tmp_path / "bundle").rglob("*")}
    code.lay_out(current, tmp_path / "bundle", archive)
    assert {path: path.stat().st_ino for path in (tmp_path / "bundle").rglob("*")} == before
    assert [path.name for path in (tmp_path / "bundle/code").iterdir()] == [current.name]


def test_too_much_is_refused(builders: Path) -> None:
    """Who names a whole disk is told, before any of it is kept in each version."""
    (builders / "large.bin").write_bytes(bytes(MAX_BYTES))
    with pytest.raises(SettingsError, match="Name folders that hold builders only"):
        codebase(builders).current()


@pytest.mark.parametrize("archive", [None, b"", b"damaged" * 1000])
def test_a_damaged_archive(tmp_path: Path, archive: bytes | None) -> None:
    """An archive that cannot be unpacked is an error of ours, and leaves nothing behind."""
    with pytest.raises(SnapshotError, match="abc"):
        codebase().lay_out(Code("abc", ()), tmp_path, archive)
    assert list((tmp_path / "code").iterdir()) == []


def archive_with(entry: tarfile.TarInfo) -> bytes:
    """Return an archive that holds one entry."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(entry, io.BytesIO(bytes(entry.size)))
    return buffer.getvalue()


def named(archive: bytes) -> Code:
    """Return the code that an archive is of."""
    return Code(reference(archive), ())


@pytest.mark.parametrize("name", ["../../../escaped.py", "{folder}/escaped.py", "0/../../../../escaped.py"])
def test_an_archive_cannot_write_elsewhere(builders: Path, tmp_path: Path, name: str) -> None:
    """Whoever may write into the history may not write outside the bundle's folder by it."""
    archive = archive_with(tarfile.TarInfo(name.format(folder=tmp_path)))
    with pytest.raises(SnapshotError, match=r"escaped\.py"):
        codebase(builders).lay_out(named(archive), tmp_path / "deep/bundle", archive)
    assert not list(tmp_path.rglob("escaped.py"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE])
def test_an_archive_holds_plain_files_only(tmp_path: Path, kind: bytes) -> None:
    """A link, a device or a pipe in the code's archive is refused: only files are packed."""
    entry = tarfile.TarInfo("0/strange")
    entry.type, entry.linkname = kind, "/etc/passwd"
    archive = archive_with(entry)
    with pytest.raises(SnapshotError, match="0/strange"):
        codebase().lay_out(named(archive), tmp_path, archive)
    assert list((tmp_path / "code").iterdir()) == []


def test_modes_in_an_archive_count_for_nothing(tmp_path: Path) -> None:
    """No file of the code can be executed, or belongs to somebody else, because an archive says so."""
    entry = tarfile.TarInfo("0/job.py")
    entry.mode = 0o6777
    archive = archive_with(entry)
    codebase().lay_out(named(archive), tmp_path, archive)
    (file,) = (tmp_path / "code").glob("*/0/job.py")
    assert stat.S_IMODE(file.stat().st_mode) & 0o6111 == 0


def test_an_inner_bundle_without_versions(builders: Path, tmp_path: Path) -> None:
    """Its files are copied, as those of a folder are; builders are relative to it."""
    inner = {"classpath": LOCAL, "kwargs": {"path": str(builders.parent)}}
    code = codebase("builders", inner=inner)
    assert set(laid_out(code, tmp_path / "bundle")) == {"0/builders/below/data.sql", "0/builders/job.py"}
    assert code.current().inner is None
    before = code.current().name
    write(builders / "job.py", "one = 2\n")
    assert code.current().name != before


@pytest.fixture
def versioned(tmp_path: Path) -> Path:
    """A folder of versions for the bundle above."""
    for version in ("first", "second"):
        write(tmp_path / f"inner/{version}/builders/job.py", f"version = {version!r}\n")
    write(tmp_path / "inner/now", "first")
    return tmp_path / "inner"


def test_an_inner_bundle_with_versions(versioned: Path, tmp_path: Path) -> None:
    """Its version is the code's name; its own files of that version are linked to, and nothing is copied."""
    code = codebase("builders", inner={"classpath": HERE, "kwargs": {"folder": str(versioned)}})
    assert code.current() == Code("first", ("./builders",), "first")
    code.lay_out(code.current(), tmp_path / "bundle")
    write(versioned / "now", "second")
    assert code.current() == Code("second", ("./builders",), "second")
    code.lay_out(code.current(), tmp_path / "bundle")
    assert code.archive is None
    for version in ("first", "second"):
        assert version in (tmp_path / "bundle/code" / version / "builders/job.py").read_text()


def test_an_inner_bundle_that_was_cleaned_up(versioned: Path, tmp_path: Path) -> None:
    """A link to a version that is no longer on this machine is made anew."""
    code = codebase("builders", inner={"classpath": HERE, "kwargs": {"folder": str(versioned)}})
    code.lay_out(code.current(), tmp_path / "bundle")
    (tmp_path / "bundle/code/first").unlink()
    (tmp_path / "bundle/code/first").symlink_to(tmp_path / "nowhere")
    code.lay_out(code.current(), tmp_path / "bundle")
    assert (tmp_path / "bundle/code/first/builders/job.py").exists()


@pytest.mark.parametrize(
    "inner",
    [{}, {"classpath": "nowhere"}, {"classpath": "no.such.Bundle"}, {"classpath": LOCAL, "kwargs": {"paht": "x"}}],
)
def test_an_inner_bundle_that_cannot_be_made(inner: dict[str, Any]) -> None:
    """It is an error of the settings, that says what was given and what it takes."""
    with pytest.raises(SettingsError, match="classpath"):
        codebase("builders", inner=inner).current()


class Failing(Snapshots):
    """A bundle whose source is down."""

    refreshes = 0

    def refresh(self) -> None:
        type(self).refreshes += 1
        raise RuntimeError("cannot reach the repository")


def test_an_inner_bundle_that_cannot_be_refreshed(versioned: Path) -> None:
    """Whatever it raises is an error of ours, so that the code in force stays; it is asked again after a while."""
    inner = {"classpath": f"{__name__}.Failing", "kwargs": {"folder": str(versioned)}}
    code = Codebase(("builders",), inner, name="tenants", interval=1_000.0)
    with pytest.raises(SettingsError, match="cannot reach the repository"):
        code.current()
    assert code.current().name == "first"
    assert Failing.refreshes == 1


def test_neighbours(builders: Path, tmp_path: Path) -> None:
    """What stands beside a package or a file may be imported by it; an inner bundle brings all in its own folder."""
    write(tmp_path / "package/__init__.py", "")
    code = codebase(builders, tmp_path / "package", builders / "job.py", "json")
    assert code.neighbours() == [str(builders), str(tmp_path)]
    assert codebase("builders", inner={"classpath": LOCAL}).neighbours() == []
