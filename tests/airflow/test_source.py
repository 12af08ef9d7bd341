"""Where the demonstration's configuration lives, and what it tells its reader to type."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dagfactory_consul.stores import open_store
from demo.consul import ConsulAgent
from demo.source import BESIDE, SAMPLES, FolderOfFiles, OtherConsul, OwnConsul, Source, choose, sample


def read(source: Source) -> dict[str, str]:
    """Return what Airflow would read from there."""
    store = open_store(source.url, prefix=source.prefix)
    try:
        return {entry.key: entry.value.decode().strip() for entry in store.read().entries}
    finally:
        store.close()


@pytest.fixture(params=["own", "other", "files"])
def source(
    request: pytest.FixtureRequest, consul_program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Source]:
    """Each kind of place, started."""
    if request.param == "other":
        agent: ConsulAgent = request.getfixturevalue("consul_agent")
        monkeypatch.setenv("CONSUL_HTTP_ADDR", agent.address)
    places: dict[str, Callable[[], Source]] = {
        "own": lambda: OwnConsul(tmp_path / "consul", program=consul_program),
        "other": lambda: choose(tmp_path),
        "files": lambda: FolderOfFiles(tmp_path / "config", "a test"),
    }
    made = places[request.param]()
    try:
        made.start()
        yield made
    finally:
        made.stop()


def test_what_is_written_is_read_and_what_is_deleted_is_gone(source: Source) -> None:
    """A document that the demonstration writes is what the loader's store reads."""
    source.put("flags/a", "true")
    source.put("flags/b", "true")
    source.delete("flags/b")
    assert read(source) == {"flags/a": "true"}


def test_the_command_that_is_shown_works(source: Source) -> None:
    """The line that a reader is told to copy writes the document, as it stands."""
    source.put("flags/process-messages", "true")
    subprocess.run(source.how_to_put("flags/process-messages", "false"), shell=True, check=True, capture_output=True)  # noqa: S602 - that is how a reader runs it
    assert read(source) == {"flags/process-messages": "false"}


def test_somebody_elses_consul_is_left_as_it_was(consul_agent: ConsulAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a Consul that somebody else runs the demonstration removes all that it, and its Airflow, have written."""
    monkeypatch.setenv("CONSUL_HTTP_ADDR", consul_agent.address)
    consul_agent.request("PUT", "/v1/kv/dagfactory/flags/real", body=True)
    source = OtherConsul(consul_agent.address, {})
    source.start()
    source.put("flags/a", "true")
    for name in BESIDE:
        consul_agent.request("PUT", f"/v1/kv/dagfactory-demo-{name}/production/x", body=True)
    source.stop()
    assert "dagfactory-demo" not in str(consul_agent.request("GET", "/v1/kv/?keys"))
    assert consul_agent.request("GET", "/v1/kv/dagfactory/flags/real?raw") is True


def test_without_consul_there_are_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no Consul program and none can be brought, a folder of files is used, and the reason is said."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("DAGFACTORY_CACHE", str(tmp_path / "cache"))
    source = choose(tmp_path)
    assert source.url == str(tmp_path / "config")
    assert "no `consul` on the PATH" in source.about


def test_a_consul_that_was_away_comes_back_with_its_data(consul_program: Path, tmp_path: Path) -> None:
    """The agent that the tour stops and starts again still knows what was written to it."""
    source = OwnConsul(tmp_path / "consul", program=consul_program)
    try:
        source.start()
        source.put("flags/a", "true")
        source.go_away()
        source.come_back()
        assert read(source) == {"flags/a": "true"}
    finally:
        source.stop()


def test_samples_are_found_by_their_key() -> None:
    """A sample's text is that of its file."""
    assert sample("tenants/acme") == (SAMPLES / "tenants" / "acme.yaml").read_text()
