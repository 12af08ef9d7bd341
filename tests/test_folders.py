"""Folders and files of this process: for its user and group, and refused where another user could change them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from dagfactory_consul.errors import FolderError
from dagfactory_consul.folders import check, own, write_file
from dagfactory_consul.runtime import client_of, folder_of
from dagfactory_consul.settings import Settings
from tests.bundles import Site
from tests.test_worker import worker

SOMEBODY = 12_345
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make folders of another user")


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """The usual umask, by which others may read."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_folder_is_for_user_and_group(tmp_path: Path) -> None:
    """Others get no right; a stricter umask counts."""
    own(tmp_path / "a/b")
    assert mode(tmp_path / "a/b") == 0o750
    os.umask(0o077)
    own(tmp_path / "a/c")
    assert mode(tmp_path / "a/c") == 0o700


def test_rights_of_others_are_taken_back(tmp_path: Path) -> None:
    """A folder of a former version, that others read, is closed to them; the group's rights stay as they are."""
    tmp_path.chmod(0o2775)
    own(tmp_path)
    assert mode(tmp_path) == 0o2770


def test_a_file_is_for_user_and_group(tmp_path: Path) -> None:
    """Others may not read it, whatever the umask."""
    write_file(tmp_path / "file", "text")
    assert (mode(tmp_path / "file"), (tmp_path / "file").read_text()) == (0o640, "text")


@as_root
def test_another_users_folder_is_refused(tmp_path: Path) -> None:
    """The error names the folder, both users and the command."""
    folder = tmp_path / "taken"
    folder.mkdir()
    os.chown(folder, SOMEBODY, SOMEBODY)
    with pytest.raises(
        FolderError, match=rf"{folder} belongs to the user 12345, .*runs as root.*chown -R 0:0 {folder}"
    ):
        own(folder)


@as_root
def test_another_users_link_is_refused(tmp_path: Path) -> None:
    """A link in the place of the folder could be turned elsewhere by its owner."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    own(tmp_path / "link")
    os.lchown(tmp_path / "link", SOMEBODY, SOMEBODY)
    with pytest.raises(FolderError, match="12345"):
        own(tmp_path / "link")


def test_a_folder_for_everybody_is_refused(tmp_path: Path) -> None:
    """A folder that every user may write is refused, with the command that mends it."""
    tmp_path.chmod(0o777)
    with pytest.raises(FolderError, match=rf"mode 0777.*chmod o-rwx {tmp_path}"):
        own(tmp_path)


@as_root
def test_airflows_folder_in_a_task_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under `run_as_user` the folder belongs to the user who has called sudo, and is used."""
    os.chown(tmp_path, SOMEBODY, SOMEBODY)
    monkeypatch.setenv("SUDO_UID", str(SOMEBODY))
    check(tmp_path)
    monkeypatch.setenv("SUDO_UID", "nobody")
    with pytest.raises(FolderError):
        check(tmp_path)


def test_what_is_not_there_is_nobodys(tmp_path: Path) -> None:
    """A check of a folder that is missing says nothing, and makes nothing."""
    check(tmp_path / "missing")
    assert not (tmp_path / "missing").exists()


def everything(folder: Path) -> dict[str, int]:
    """Return the mode of each file and folder below a folder."""
    return {str(path.relative_to(folder)): mode(path) for path in folder.rglob("*") if not path.is_symlink()}


def test_nothing_of_a_bundle_is_for_others(tmp_path: Path) -> None:
    """No other user gets into what a processor and a worker write, nor into the state folder."""
    site = Site(tmp_path)
    site.tenant("acme")
    one = site.machine().settle()
    away = worker(site)
    own(away.versions)
    away.lay_out(one.head.version, "acme__job")
    assert (mode(one.base), mode(one.base / "head.json")) == (0o750, 0o640)
    found = everything(one.path) | everything(away.versions)
    assert [name for name, bits in found.items() if name.endswith((".json", ".py")) and bits & 0o027] == []
    assert [mode(each) for each in one.arguments["state_dir"].iterdir()] == [0o700]


@as_root
def test_a_processor_refuses_another_users_folder(tmp_path: Path) -> None:
    """Nothing is written into a bundle's folder that somebody else has made first, and nothing in it is run."""
    site = Site(tmp_path)
    site.tenant("acme")
    one = site.machine()
    one.path.mkdir(parents=True)
    os.chown(one.base, SOMEBODY, SOMEBODY)
    with pytest.raises(FolderError):
        one.refresh()
    with pytest.raises(FolderError):
        one.bundle().initialize()
    with pytest.raises(FolderError):
        one.start("acme__job", "v1", "tenants/acme.py")
    assert list(one.path.iterdir()) == []


@as_root
def test_another_users_state_is_refused(tmp_path: Path) -> None:
    """A last good snapshot that another user could write is not read."""
    settings = Settings.read(store=str(tmp_path), state_dir=tmp_path / "state")
    folder_of(settings).mkdir(parents=True)
    os.chown(folder_of(settings), SOMEBODY, SOMEBODY)
    with pytest.raises(FolderError):
        client_of(settings)
