"""What must hold on a real Airflow when things go wrong: no run is stranded, nothing vanishes, nothing leaks."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from demo.look import DRAINING, SOON, active, become, edited, finish_run, last_parsed, settled, start_run, stay
from demo.source import SAMPLES, OwnConsul
from demo.stack import Stack
from demo.wait import until

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]

GATED = "gate__gated"


def gated(folder: Path) -> str:
    """Return a tenant's document whose runs wait between two tasks until the file `open` is in the folder."""
    return json.dumps({"dags": {"Gated": {"folder": str(folder)}}})


@contextmanager
def opened_in_the_end(folder: Path) -> Iterator[None]:
    """Let no run wait for ever, whatever becomes of the test."""
    try:
        yield
    finally:
        (folder / "open").touch()


def parsed_again(stack: Stack) -> None:
    """Wait until the tenants' DAGs have been parsed once more from beginning to end."""
    before = last_parsed(stack)
    until(lambda: last_parsed(stack) > before, "the DAGs are parsed again", seconds=SOON)


def shown(stack: Stack) -> str:
    """Return what Airflow shows as import errors."""
    return "\n".join(stack.airflow.api.import_errors().values())


def test_a_run_ends_although_its_flag_goes_off_between_two_tasks(stack: Stack, tmp_path: Path) -> None:
    """A flag that goes off strands no run: the DAG drains, its run goes on to the end, and then the DAG goes."""
    before = settled(stack)
    with opened_in_the_end(tmp_path), edited(stack, "tenants/gate", gated(tmp_path)):
        run = start_run(stack, GATED)
        until((tmp_path / "before").exists, "the first task has run", seconds=SOON)
        with edited(stack, "flags/gated", "false"):
            until(lambda: DRAINING in active(stack).get(GATED, ()), "the DAG is draining", seconds=SOON)
            parsed_again(stack)
            assert not (tmp_path / "after").exists()
            (tmp_path / "open").touch()
            finish_run(stack, GATED, run)
            assert (tmp_path / "after").exists()
            become(stack, before, keep=before)


def test_a_killed_processor_loses_nothing(stack: Stack, consul: OwnConsul) -> None:
    """A dag processor that is killed while a parse refreshes from Consul leaves all DAGs, and the next one goes on."""
    before = settled(stack)
    assert consul.agent.process is not None
    consul.agent.process.send_signal(signal.SIGSTOP)  # the refresh hangs, and is there to be killed
    try:
        family = until(
            lambda: refreshing(stack, consul.agent.port), "a parse waits for Consul", seconds=SOON, every=0.02
        )
        stack.airflow.kill("dag-processor")
        for process in family:
            process.kill()
    finally:
        consul.agent.process.send_signal(signal.SIGCONT)
    stack.airflow.start("dag-processor")
    parsed_again(stack)
    assert set(active(stack)) == before
    with edited(stack, "tenants/gate", gated(stack.folder)):
        become(stack, before | {GATED}, keep=before)
    become(stack, before, keep=before)


def test_a_token_that_is_revoked_costs_no_dag(stack: Stack, consul: OwnConsul) -> None:
    """With a token that Consul no longer takes, all DAGs stay, and Airflow shows what is wrong."""
    before = settled(stack)
    token = consul.env["CONSUL_HTTP_TOKEN"]
    whoami = f"http://{consul.agent.address}/v1/acl/token/self"
    itself = httpx.get(whoami, headers={"X-Consul-Token": token}, trust_env=False).raise_for_status().json()
    consul.agent.request("DELETE", f"/v1/acl/token/{itself['AccessorID']}")
    try:
        until(lambda: "consul" in shown(stack).lower(), "Airflow shows the problem", seconds=SOON)
        stay(stack, before)
    finally:
        again = {"SecretID": token, "Policies": itself["Policies"]}
        consul.agent.request("PUT", "/v1/acl/token", again)
    until(lambda: not shown(stack), "the problem is gone", seconds=SOON)


def test_an_emptied_consul_costs_no_dag(stack: Stack, consul: OwnConsul) -> None:
    """When all keys are gone at once, all DAGs stay, and Airflow shows that the change is held."""
    before = settled(stack)
    consul.agent.request("DELETE", "/v1/kv/dagfactory/?recurse")
    try:
        until(lambda: shown(stack), "Airflow shows the problem", seconds=SOON)
        stay(stack, before)
    finally:
        stack.push(SAMPLES)
    until(lambda: not shown(stack), "the problem is gone", seconds=SOON)
    assert set(active(stack)) == before


def test_a_damaged_local_file_costs_no_dag(stack: Stack, consul: OwnConsul) -> None:
    """When what is in force cannot be read while Consul is away, it is worked out anew from the last good snapshot."""
    before = settled(stack)
    consul.go_away()
    try:
        files = [each for each in stack.airflow.home.glob("dagfactory-consul/*/release-*") if each.stat().st_size]
        assert files
        for each in files:
            each.write_bytes(each.read_bytes()[:100])
        stay(stack, before)
    finally:
        consul.come_back()
    until(lambda: not shown(stack), "the problem is gone", seconds=SOON)


def test_the_token_is_in_no_file(stack: Stack, consul: OwnConsul) -> None:
    """Whatever has happened before, Consul's token is in no file of Airflow's: no log, no snapshot, no database."""
    files = [path for path in stack.folder.rglob("*") if path.is_file()]
    secrets = [token.encode() for token in (consul.env["CONSUL_HTTP_TOKEN"], consul.agent.token)]
    assert any(path.suffix == ".log" for path in files)
    assert [path for path in files if any(secret in path.read_bytes() for secret in secrets)] == []


def refreshing(stack: Stack, port: int) -> list[psutil.Process]:
    """Return the dag processor's children, if one of them is connected to Consul just now."""
    children = psutil.Process(stack.airflow.running["dag-processor"].pid).children(recursive=True)
    for child in children:
        try:
            if any(link.raddr and link.raddr.port == port for link in child.net_connections("tcp")):
                found: list[psutil.Process] = children
                return found
        except psutil.Error:  # it has ended meanwhile
            continue
    return []
