"""docker-compose.yml: what the compose program reads in it, and what its services do when they are started."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from demo.api import AirflowApi
from demo.wait import until

from . import programs
from .native import NativeStack, mount, published

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "docker-compose.yml"
SECRETS = {"POSTGRES_PASSWORD", "FERNET_KEY", "JWT_SECRET", "API_SECRET_KEY", "ADMIN_PASSWORD"}
ONE_SHOT = {"airflow-init", "config-init"}
START_SECONDS = 150

Secrets = dict[str, str]
Services = dict[str, Any]


@pytest.fixture(scope="session")
def env_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The secrets that `make compose-env` makes."""
    file = tmp_path_factory.mktemp("compose") / "secrets.env"
    make_env(file)
    return file


@pytest.fixture(scope="session")
def secrets(env_file: Path) -> Secrets:
    return dict(line.split("=", 1) for line in env_file.read_text().splitlines())


@pytest.fixture(scope="session")
def rendered(env_file: Path) -> dict[str, Any]:
    """The file as the compose program understands it."""
    done = compose("config", env_file=env_file)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = yaml.safe_load(done.stdout)
    return found


@pytest.fixture(scope="session")
def services(rendered: dict[str, Any]) -> Services:
    found: Services = rendered["services"]
    return found


def make_env(file: Path) -> None:
    subprocess.run([ROOT / "docker" / "make-env", file], check=True, capture_output=True)


def compose(*words: str, env_file: Path, file: Path = FILE) -> subprocess.CompletedProcess[str]:
    program = programs.compose()
    files = [f"--file={file}", f"--project-directory={ROOT}", f"--env-file={env_file}"]
    return subprocess.run(
        [*program.command, *files, *words],
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **program.env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_compose_program_accepts_the_file(env_file: Path) -> None:
    """The compose program finds nothing wrong with the file."""
    done = compose("config", "--quiet", env_file=env_file)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("healthcheck:", "helthcheck:"),
        ("condition: service_healthy", "condition: service_hale"),
        ("airflow-init:\n        condition", "airflow-start:\n        condition"),
        ("consul-data:/consul", "consul-date:/consul"),
    ],
)
def test_the_compose_program_refuses_a_broken_copy(good: str, bad: str, env_file: Path, tmp_path: Path) -> None:
    """The check above can fail: a wrong word, condition, service or volume is refused."""
    assert good in FILE.read_text()
    copy = tmp_path / "docker-compose.yml"
    copy.write_text(FILE.read_text().replace(good, bad))
    assert compose("config", "--quiet", env_file=env_file, file=copy).returncode != 0


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_nothing_starts_without_its_secrets(name: str, secrets: Secrets, tmp_path: Path) -> None:
    """Without one of its secrets the file is refused, and the message says what to do."""
    file = tmp_path / "some.env"
    file.write_text("".join(f"{key}={value}\n" for key, value in secrets.items() if key != name))
    done = compose("config", "--quiet", env_file=file)
    assert done.returncode != 0
    assert "make compose-env" in done.stderr


def test_secrets_are_random_and_private(env_file: Path, secrets: Secrets, tmp_path: Path) -> None:
    """`make compose-env` makes other secrets each time, readable by their owner alone."""
    make_env(tmp_path / "other.env")
    other = dict(line.split("=", 1) for line in (tmp_path / "other.env").read_text().splitlines())
    assert set(secrets) == set(other) == SECRETS
    assert not set(secrets.values()) & set(other.values())
    assert all(len(value) >= 20 for value in secrets.values())
    assert env_file.stat().st_mode & 0o777 == 0o600


def test_secrets_that_exist_are_kept(env_file: Path) -> None:
    """`make compose-env` leaves a file alone that is there: the database's volume knows its password."""
    before = env_file.read_text()
    make_env(env_file)
    assert env_file.read_text() == before


def test_a_secret_goes_only_where_it_is_needed(services: Services, secrets: Secrets) -> None:
    """Consul and the step that fills it see no secret; what signs tasks' tokens stays with those who sign and check."""
    having: dict[str, set[str]] = {
        key: {name for name, said in services.items() if secret in str(said)} for key, secret in secrets.items()
    }
    assert having["ADMIN_PASSWORD"] == {"airflow-apiserver"}
    assert having["JWT_SECRET"] == {"airflow-apiserver", "airflow-scheduler"}
    assert not any({"consul", "config-init"} & names for names in having.values())


def test_ports_are_published_to_this_machine_alone(services: Services) -> None:
    """No port is open to the network, and the database's to nobody."""
    found = dict(published(services))
    assert set(found) == {"consul", "airflow-apiserver"}
    assert set(found.values()) == {"127.0.0.1"}


def test_every_lasting_service_has_a_health_check(services: Services) -> None:
    """What stays up says whether it works; what does its work and ends is not started again."""
    assert {name for name, said in services.items() if "healthcheck" not in said} == ONE_SHOT
    assert {name for name, said in services.items() if said["restart"] == "no"} == ONE_SHOT


def test_what_is_mounted_and_built_from_exists(services: Services) -> None:
    """Every folder and file of the project that the stack uses is there."""
    mounts = [source for said in services.values() for source, _ in map(mount, said.get("volumes") or [])]
    wanted = {Path(source) for source in mounts if source.startswith("/")}
    wanted |= {ROOT / "docker" / "Dockerfile"} | {ROOT / source for source in copied_into_the_image()}
    assert [path for path in sorted(wanted) if not path.exists()] == []


def test_the_image_has_all_that_the_package_is_built_from(tmp_path: Path) -> None:
    """What the Dockerfile copies is enough to build the package, with the commands in it."""
    for source in copied_into_the_image():
        subprocess.run(["cp", "-r", ROOT / source, tmp_path], check=True)
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run(build, cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "dagfactory_consul").rglob("*.py")}
    assert modules <= set(names)
    assert any(name.endswith("entry_points.txt") for name in names)


def test_the_image_has_the_airflow_that_is_tested() -> None:
    """The image's Airflow is the one of the lock file, and within what the package asks for."""
    (version,) = re.findall(r"^ARG AIRFLOW_VERSION=(\S+)$", (ROOT / "docker/Dockerfile").read_text(), re.MULTILINE)
    assert re.search(
        rf"^apache-airflow=={re.escape(version)}\b", (ROOT / "requirements.lock").read_text(), re.MULTILINE
    )
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert f"apache-airflow>={'.'.join(version.split('.')[:2])},<3.4" in wanted


def copied_into_the_image() -> list[str]:
    lines = re.findall(r"^COPY (.+) \S+$", (ROOT / "docker" / "Dockerfile").read_text(), re.MULTILINE)
    return [source for line in lines for source in line.split()]


@pytest.fixture(scope="module")
def stack(rendered: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeStack]:
    """All services, started natively as the file says, and healthy."""
    found = NativeStack(rendered, tmp_path_factory.mktemp("stack"))
    try:
        found.up(seconds=START_SECONDS)
        yield found
    finally:
        found.down()


@pytest.fixture(scope="module")
def api(stack: NativeStack, secrets: Secrets) -> Iterator[AirflowApi]:
    found = AirflowApi(stack.url, user="admin", password=secrets["ADMIN_PASSWORD"])
    yield found
    found.close()


@pytest.mark.airflow
@pytest.mark.timeout(START_SECONDS + 60)
def test_every_service_gets_healthy_with_the_files_own_settings(stack: NativeStack, api: AirflowApi) -> None:
    """Started with the environment that the file gives them, all services work, and Airflow sees all its parts."""
    parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
    until(lambda: api.healthy() == dict.fromkeys(parts, "healthy"), "Airflow says that all is healthy", seconds=30)
    assert all(service.done for service in stack.services.values())


@pytest.mark.airflow
def test_tenants_in_consul_become_dags_that_run(stack: NativeStack, api: AirflowApi) -> None:
    """Every tenant that the init step has pushed into Consul gets DAGs, and a run of one leaves its result."""
    files = (ROOT / "demo/config/tenants").glob("*.yaml")
    tenants = {file.stem for file in files if yaml.safe_load(file.read_text()).get("enabled", True)}

    def all_have_dags() -> bool:
        having = {dag_id.split("__")[0] for dag_id in api.dags()}
        assert tenants <= having, f"{tenants - having} have none; import errors: {api.import_errors()}"
        return bool(tenants)

    until(all_have_dags, "every tenant has DAGs", seconds=45)
    assert api.import_errors() == {}
    dag_id = next(dag_id for dag_id in sorted(api.dags()) if "__" in dag_id)
    run = api.trigger(dag_id)
    ended = until(
        lambda: (now := api.run(dag_id, run))["state"] in ("success", "failed") and now, "it ends", seconds=60
    )
    assert ended["state"] == "success", stack.log("airflow-scheduler")[-3000:]
    assert list((stack.home / "results").rglob("*.json"))


@pytest.mark.airflow
def test_the_settings_are_as_the_bundle_wants_them(stack: NativeStack) -> None:
    """The bundle warns of each of Airflow's settings that slows or breaks it: here only of the test's own folder."""
    log = stack.log("airflow-dag-processor")
    assert "DAGs new" in log
    lines = [line for line in log.splitlines() if ". Set AIRFLOW__" in line or "refresh_interval is" in line]
    assert all("below a folder for temporary files" in line for line in lines), lines


@pytest.mark.airflow
def test_the_samples_are_pushed_once(stack: NativeStack) -> None:
    """Starting the stack again leaves alone what somebody has changed in Consul since."""
    init = stack.services["config-init"]
    key = f"http://127.0.0.1:{stack.ports['http']}/v1/kv/dagfactory/flags/process-messages"
    with httpx.Client(trust_env=False) as consul:
        assert consul.get(key, params={"raw": ""}).is_success
        assert consul.put(key, content="false").is_success
        again = subprocess.run(init.command, env=init.env, capture_output=True, text=True, check=False)
        assert again.returncode == 0, again.stderr
        assert consul.get(key, params={"raw": ""}).text == "false"
