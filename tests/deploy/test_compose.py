"""compose.yaml: what it starts, and the commands in its first lines, run against a real Postgres as its
containers would run them."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.conftest import Cluster
from tests.deploy.settings import KNOWN
from tests.forks import start_ledger
from tests.serving.process import REPOSITORY, build_environment, run_ledger
from tests.webhooks.receiver import wait_until

COMPOSE = REPOSITORY / "compose.yaml"
CONTAINERS = ("migrate", "api", "worker")


@cache
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def comment_lines() -> list[str]:
    """The commands in the comment at the top."""
    return re.findall(r"^#   (\S.*)$", COMPOSE.read_text().split("\n\n")[0], re.MULTILINE)


def test_compose_runs_existing_commands() -> None:
    commands = {name: each["command"] for name, each in services().items() if "command" in each}
    assert commands == {name: [name] for name in CONTAINERS}


def test_compose_holds_no_secret_and_publishes_one_local_port() -> None:
    for line in re.findall(r"^.*(?:PASSWORD|SECRET)\w*: .*$", COMPOSE.read_text(), re.MULTILINE):
        assert line.lstrip().startswith("#") or "${" in line, line
    assert {name for name, each in services().items() if "ports" in each} == {"api"}
    assert services()["api"]["ports"] == ["${LEDGER_PUBLISH:-127.0.0.1:4242}:4242"]
    for name in CONTAINERS:
        assert services()[name]["read_only"] is True
        assert services()[name]["cap_drop"] == ["ALL"]


def test_compose_lets_the_service_drain_and_keeps_the_data() -> None:
    volumes = yaml.safe_load(COMPOSE.read_text())["volumes"]
    for name in ("api", "worker"):
        assert int(services()[name]["stop_grace_period"].removesuffix("s")) > 10
        assert services()[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    assert services()["postgres"]["volumes"][0].partition(":")[0] in volumes


def test_compose_sets_only_known_settings() -> None:
    for each in services().values():
        assert {name for name in each.get("environment", {}) if name.startswith("LEDGER_")} <= KNOWN


@pytest.mark.parametrize(("container", "setting"), [("api", "LEDGER_PORT"), ("worker", "LEDGER_HEALTH_PORT")])
def test_the_health_check_asks_the_port_that_is_set(container: str, setting: str) -> None:
    _, program, *arguments = services()[container]["healthcheck"]["test"]
    port = services()[container]["environment"][setting]
    assert (program, arguments[0]) == ("python", "-c")
    assert f"http://127.0.0.1:{port}/healthz" in arguments[1]


def test_the_secrets_of_the_comment_can_be_used(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    subprocess.run(["sh", "-c", comment_lines()[0]], cwd=tmp_path, check=True)
    file = tmp_path / ".env"
    assert file.stat().st_mode & 0o777 == 0o600
    secrets = dict(line.split("=", 1) for line in file.read_text().splitlines())
    assert re.fullmatch(r"[0-9a-f]{64}", secrets["LEDGER_SECRET_KEY"])
    assert re.fullmatch(r"[0-9a-f]{48}", secrets["POSTGRES_PASSWORD"])
    # Every variable that must be set is in it.
    assert set(re.findall(r"\$\{(\w+):\?", COMPOSE.read_text())) == set(secrets)


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def container_settings(name: str, dsn: str, port: int) -> dict[str, Any]:
    """The settings of a container, but for the address of its Postgres, the port, and what .env has."""
    settings = {
        variable.removeprefix("LEDGER_").lower(): value
        for variable, value in services()[name].get("environment", {}).items()
        if variable.startswith("LEDGER_")
    }
    own = {"database_url": dsn, "secret_key": "0123456789abcdef" * 4, "port": str(port), "workers": "1"}
    return settings | own


@contextmanager
def run_container(name: str, dsn: str, port: int, place: Path) -> Iterator[None]:
    """What a container runs, until the block ends."""
    process = start_ledger(
        services()[name]["command"],
        environment=build_environment(place / "data", **container_settings(name, dsn, port)),
        directory=place,
        output=place / f"{name}.out",
        errors=place / f"{name}.log",
    )
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(20) == 0, (place / f"{name}.log").read_text()


def run_line(line: str, dsn: str, port: int, place: Path) -> str:
    """Run a line of the comment and return what it prints."""
    words = shlex.split(line.replace("http://127.0.0.1:4242", f"http://127.0.0.1:{port}"))
    if words[:5] == ["docker", "compose", "exec", "api", "ledger"]:
        done = run_ledger(place / "data", *words[5:], **container_settings("api", dsn, port))
    else:
        assert words[0] == "curl"
        done = subprocess.run([*words, "-s"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    return done.stdout


def test_the_commands_of_the_comment_work_in_their_order(cluster: Cluster, place: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    lines = comment_lines()
    started = next(n for n, line in enumerate(lines) if line.startswith("docker compose up "))
    with cluster.create_database("template1") as dsn, ExitStack() as stack:
        migrated = run_ledger(place / "data", "migrate", **container_settings("migrate", dsn, port))
        assert migrated.returncode == 0, migrated
        for name in ("api", "worker"):
            stack.enter_context(run_container(name, dsn, port, place))
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/readyz"))
        known: dict[str, str] = {}
        printed = ""
        for line in lines[started + 1 :]:
            for placeholder, value in known.items():
                line = line.replace(placeholder, value)
            printed = run_line(line, dsn, port, place)
            known |= {f"{match[1]}…": match[0] for match in re.finditer(r"\b(acct_|sk_test_)\w+", printed)}
        assert known.keys() == {"acct_…", "sk_test_…"}
        assert '"name": "Jenny Rosen"' in printed
    assert not (place / "data").exists(), "a container's file system is read-only"


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False
