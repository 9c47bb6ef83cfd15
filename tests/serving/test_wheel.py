"""The wheel, built from the sdist and installed outside any checkout, runs the service by itself."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import tarfile
import time
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any

import httpx
import psycopg
import pytest

from tests.conftest import Cluster
from tests.serving.process import (
    REPOSITORY,
    SERVICE_KEY,
    START_SECONDS,
    ServeProcess,
    build_environment,
    list_children,
    run_ledger,
    run_serve,
)

BUILD_SDIST = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
NOT_COPIED = ignore_patterns(".*", "__pycache__", "node_modules", "build", "dist", "*.egg-info")
WRONG_PACKAGE = 'raise SystemExit("this is not the installed package")\n'


def run(*command: str | Path, cwd: Path) -> str:
    """The standard output of a command that must succeed."""
    completed = subprocess.run(
        command,
        env=build_environment(cwd, release=None),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


@pytest.fixture(scope="module")
def sdist(place: Path) -> Path:
    """Built from a copy of the sources: a build leaves files behind."""
    copytree(REPOSITORY, place / "sources", ignore=NOT_COPIED)
    run(sys.executable, "-c", BUILD_SDIST, place, cwd=place / "sources")
    (sdist,) = place.glob("ledger-*.tar.gz")
    return sdist


@pytest.fixture(scope="module")
def wheel(place: Path, sdist: Path) -> Path:
    """Built with the setuptools that is installed here: nothing is downloaded."""
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    run(sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", place, sdist, cwd=place)
    (wheel,) = place.glob("ledger-*.whl")
    return wheel


@pytest.fixture(scope="module")
def python(place: Path, wheel: Path) -> Path:
    """The Python of a new environment with the wheel in it. Its dependencies are those installed here, which
    a path file shows it; the `ledger` installed here is a path file itself, and such files do not nest."""
    environment = place / "environment"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    options = ("--quiet", "--no-deps", "--no-index", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, wheel, cwd=place)
    (site_packages,) = environment.glob("lib/python*/site-packages")
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


@pytest.fixture(scope="module")
def data_dir(place: Path) -> Path:
    """In a working directory that has another `ledger` in it."""
    directory = place / "elsewhere"
    (directory / "ledger").mkdir(parents=True)
    (directory / "ledger" / "__init__.py").write_text(WRONG_PACKAGE)
    return directory / "data"


@pytest.fixture(scope="module")
def program(python: Path) -> list[str]:
    return [str(python.with_name("ledger"))]


@pytest.fixture(scope="module")
def service(data_dir: Path, program: list[str]) -> Iterator[ServeProcess]:
    """The installed service on an embedded database, as a supervisor of two API processes and a worker."""
    with run_serve(data_dir, program=program, release=None, workers=2) as service:
        yield service


def test_the_wheel_holds_the_packages_and_the_migrations_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packaged = {name for name in archive.namelist() if ".dist-info/" not in name}
    sources = {
        str(file.relative_to(REPOSITORY))
        for package in ("ledger", "projections", "alembic")
        for file in (REPOSITORY / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert packaged == {name.replace("alembic/", "ledger/migrations/") for name in sources}


def test_the_sdist_holds_what_a_build_needs(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "setup.py", "LICENSE", "alembic/env.py", "ledger/__main__.py"} <= names


def test_the_package_is_imported_from_the_new_environment(python: Path, place: Path) -> None:
    imports = "import ledger, projections; print(ledger.__file__, projections.__file__)"
    for file in run(python, "-c", imports, cwd=place).split():
        assert Path(file).is_relative_to(place / "environment")


def test_it_runs_as_a_module(python: Path, place: Path) -> None:
    assert "Run the API and the projections." in run(python, "-m", "ledger", "--help", cwd=place)


def test_it_serves(service: ServeProcess) -> None:
    """The API processes answer; the customer is listed once the worker's projections have it."""
    children = list(list_children(service.process.pid).values())
    assert (children.count("ledger api"), children.count("ledger worker")) == (2, 1)
    with client_of(service) as client:
        assert client.post("/v1/customers", data={"name": "Ada"}).status_code == 200
        assert client.get("/v1/customers").json()["data"][0]["name"] == "Ada"


def test_it_rebuilds_with_two_processes(service: ServeProcess, program: list[str]) -> None:
    with client_of(service) as client:
        assert client.post("/v1/customers", data={"name": "Grace"}).status_code == 200
        arguments = ("projections", "rebuild", "customers", "--workers", "2")
        rebuilt = run_ledger(service.data_dir, *arguments, program=program, release=None)
        assert rebuilt.returncode == 0, rebuilt.stderr
        assert "customers" in rebuilt.stderr
        assert client.get("/v1/customers").json()["data"][0]["name"] == "Grace"


def test_it_migrates_an_empty_database_and_a_worker_fills_it(
    cluster: Cluster, data_dir: Path, program: list[str]
) -> None:
    with cluster.create_database(template="template0") as dsn:
        settings: dict[str, Any] = {"database_url": dsn, "secret_key": SERVICE_KEY, "release": None}
        migrated = run_ledger(data_dir, "migrate", program=program, **settings)
        assert (migrated.returncode, migrated.stderr) == (0, "")
        worker = subprocess.Popen(
            [*program, "worker"], env=build_environment(data_dir, **settings), cwd=data_dir.parent
        )
        try:
            with psycopg.connect(dsn, autocommit=True) as conn:
                deadline = time.monotonic() + START_SECONDS
                while not conn.execute("SELECT 1 FROM projections.checkpoints").fetchone():
                    assert worker.poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
        finally:
            worker.terminate()
            assert worker.wait(10) == 0


def client_of(service: ServeProcess) -> httpx.Client:
    keys = json.loads((service.data_dir / "dev-keys.json").read_text())
    return httpx.Client(base_url=service.url, auth=(keys["secret"], ""), timeout=20)
