"""What a killed service leaves of its embedded server, by real kills: the next start works, with the data."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from ledger.postgres.embedded import EmbeddedPostgres
from ledger.postgres.socket_dir import accepts_connections
from tests.postgres.servers import (
    FAST,
    ROOT,
    answer,
    execute,
    host,
    moved,
    postmaster_pid,
    spawn_holder,
    start_holder,
)

LOCK_FILES = ("postmaster.pid", ".s.PGSQL.5432.lock")
PR_SET_CHILD_SUBREAPER = 36


@contextlib.contextmanager
def bystander(cluster: Path, cwd: Path = Path("/")) -> Iterator[int]:
    """A process of the cluster's owner that has nothing to do with it, and that is still there at the end."""
    owner = cluster.stat()
    ids = {"user": owner.st_uid, "group": owner.st_gid} if ROOT else {}
    process = subprocess.Popen(["sleep", "60"], cwd=cwd, **ids)  # type: ignore[call-overload]
    try:
        yield process.pid
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def orphans_become_zombies() -> Iterator[None]:
    """Orphans become children of this process, which does not reap them before the end."""
    libc = ctypes.CDLL(None)
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, 1) == 0
    try:
        yield
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0)
        for child in list_children(os.getpid()):
            if state(child) == "Z":
                os.waitpid(child, 0)


def list_children(pid: int) -> list[int]:
    completed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(line) for line in completed.stdout.split() if Path(f"/proc/{line}").exists()]


def state(pid: int) -> str:
    """The state letter of a process: `Z` for a zombie."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def is_running(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return state(pid) != "Z"
    return False


def write_lock_files(cluster: Path, text: str, names: tuple[str, ...] = LOCK_FILES) -> None:
    owner = cluster.stat()
    for name in names:
        (cluster / name).write_text(text)
        os.chown(cluster / name, owner.st_uid, owner.st_gid)


def check_starts(data_dir: Path) -> None:
    """It starts with its data, and a stop leaves neither lock files nor a socket."""
    with EmbeddedPostgres(data_dir, settings=FAST) as server:
        assert answer(server.dsn()) == 42
    assert not [path for path in (data_dir / "postgres").iterdir() if path.name in LOCK_FILES]


@pytest.mark.parametrize("killed", ["service", "postmaster", "postmaster first", "service first"])
def test_a_start_after_a_kill_works_with_the_data(data_dir: Path, killed: str) -> None:
    holder, dsn = start_holder(data_dir)
    orphan = postmaster_pid(data_dir / "postgres")
    session = psycopg.connect(dsn, autocommit=True)
    if killed.startswith("postmaster"):
        os.kill(orphan, signal.SIGKILL)
    if killed == "postmaster":
        holder.terminate()
    else:
        holder.kill()
    holder.wait()
    if killed == "service first":
        os.kill(orphan, signal.SIGKILL)
    check_starts(data_dir)
    with pytest.raises(psycopg.OperationalError):
        session.execute("SELECT 1")


def test_a_server_killed_under_its_service_is_started_again_while_its_sessions_end(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir, settings=FAST) as server:
        session = psycopg.connect(server.dsn(), autocommit=True)
        os.kill(postmaster_pid(data_dir / "postgres"), signal.SIGKILL)
        server.kill()
        server.start()
        assert answer(server.dsn()) == 42
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")


def test_a_busy_backend_of_a_killed_postmaster_is_ended_first(data_dir: Path) -> None:
    holder, dsn = start_holder(data_dir)
    busy = psycopg.connect(dsn, autocommit=True)
    busy.execute("CREATE TABLE written (number int)")
    busy.pgconn.send_query(b"DO $$ BEGIN FOR n IN 1..2000000000 LOOP NULL; END LOOP; END $$")
    os.kill(postmaster_pid(data_dir / "postgres"), signal.SIGKILL)
    holder.kill()
    holder.wait()
    with EmbeddedPostgres(data_dir, settings=FAST) as server:
        assert not is_running(busy.info.backend_pid)
        assert answer(server.dsn()) == 42
        execute(server, "DROP TABLE written")


def test_a_stopped_postmaster_is_ended(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.postgres.leftovers._SIGNAL_TIMEOUT_SECONDS", 0.2)
    holder, _ = start_holder(data_dir)
    os.kill(postmaster_pid(data_dir / "postgres"), signal.SIGSTOP)
    holder.kill()
    holder.wait()
    check_starts(data_dir)


def test_a_zombie_that_keeps_the_process_id_is_harmless(data_dir: Path) -> None:
    """Under a parent that never reaps, the id of a killed postmaster stays taken for ever."""
    with orphans_become_zombies():
        holder, _ = start_holder(data_dir)
        orphan = postmaster_pid(data_dir / "postgres")
        holder.kill()
        holder.wait()
        os.kill(orphan, signal.SIGKILL)
        check_starts(data_dir)
        assert state(orphan) == "Z"


def test_an_orphan_that_becomes_a_zombie_when_it_is_shut_down_has_stopped(data_dir: Path) -> None:
    with orphans_become_zombies():
        holder, _ = start_holder(data_dir)
        orphan = postmaster_pid(data_dir / "postgres")
        holder.kill()
        holder.wait()
        check_starts(data_dir)
        assert state(orphan) == "Z"


def test_another_process_that_has_the_process_id_now_is_left_alone(data_dir: Path) -> None:
    cluster = data_dir / "postgres"
    server = EmbeddedPostgres(data_dir, settings=FAST)
    server.start()
    pid_file, socket_lock = ((cluster / name).read_text().splitlines()[1:] for name in LOCK_FILES)
    server.stop()
    with bystander(cluster) as pid:
        write_lock_files(cluster, "\n".join([str(pid), *pid_file, ""]), LOCK_FILES[:1])
        write_lock_files(cluster, "\n".join([str(pid), *socket_lock, ""]), LOCK_FILES[1:])
        check_starts(data_dir)


def test_another_program_that_works_in_the_directory_is_left_alone(data_dir: Path) -> None:
    with bystander(data_dir / "postgres", cwd=data_dir / "postgres") as pid:
        write_lock_files(data_dir / "postgres", f"{pid}\n")
        check_starts(data_dir)


@pytest.mark.parametrize(
    "text",
    ["", "\n", "garbage\n", "\0" * 64, "-1\n\n\n\n\n", "9" * 20],
    ids=["empty", "blank", "garbage", "zeros", "negative", "large"],
)
def test_damaged_lock_files_are_replaced(data_dir: Path, text: str) -> None:
    write_lock_files(data_dir / "postgres", text)
    check_starts(data_dir)


@pytest.mark.parametrize("text", ["", "garbage\n"])
def test_an_orphan_whose_lock_file_is_damaged_is_shut_down(data_dir: Path, text: str) -> None:
    holder, dsn = start_holder(data_dir)
    write_lock_files(data_dir / "postgres", text)
    holder.kill()
    holder.wait()
    session = psycopg.connect(dsn, autocommit=True)
    check_starts(data_dir)
    with pytest.raises(psycopg.OperationalError):
        session.execute("SELECT 1")


@pytest.mark.parametrize("lock_file", ["kept", "damaged"])
def test_a_socket_directory_elsewhere_is_removed(place: Path, data_dir: Path, lock_file: str) -> None:
    with moved(data_dir, place / ("d" * 120)) as odd:
        holder, dsn = start_holder(odd)
        os.kill(postmaster_pid(odd / "postgres"), signal.SIGKILL)
        holder.kill()
        holder.wait()
        if lock_file == "damaged":
            write_lock_files(odd / "postgres", "", LOCK_FILES[:1])
        assert host(dsn).exists()
        check_starts(odd)
        assert not host(dsn).exists()


def test_the_socket_of_another_server_named_by_a_copied_lock_file_is_left_alone(
    place: Path, data_dir: Path
) -> None:
    original = place / ("o" * 120)
    with EmbeddedPostgres(original, settings=FAST) as server:
        assert host(server.dsn()).parent == Path("/tmp")
        write_lock_files(
            data_dir / "postgres", (original / "postgres" / LOCK_FILES[0]).read_text(), LOCK_FILES[:1]
        )
        check_starts(data_dir)
        assert accepts_connections(host(server.dsn()))
        server.destroy()


def test_the_shared_memory_of_a_killed_server_is_released(data_dir: Path) -> None:
    holder, _ = start_holder(data_dir)
    segment = (data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[6].split()[1]
    os.kill(postmaster_pid(data_dir / "postgres"), signal.SIGKILL)
    holder.kill()
    holder.wait()
    assert segment in list_segments()
    check_starts(data_dir)
    assert segment not in list_segments()


def list_segments() -> set[str]:
    """The ids of all System V shared memory segments."""
    return {line.split()[1] for line in Path("/proc/sysvipc/shm").read_text().splitlines()}


def test_a_half_created_server_is_created_again_and_destroy_deletes_it(place: Path) -> None:
    half = place / "half" / "postgres.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    server = EmbeddedPostgres(place / "half", settings=FAST)
    server.start()
    execute(server, "SELECT 1")
    assert (place / "half" / "postgres").exists()
    server.destroy()
    assert not (place / "half" / "postgres").exists()


def test_a_service_killed_while_it_creates_the_cluster_does_not_hinder_the_next(place: Path) -> None:
    data_dir = place / "killed-early"
    holder = spawn_holder(data_dir)
    working = data_dir / "postgres.new" / "base"
    while not working.exists():
        assert holder.poll() is None
        time.sleep(0.005)
    initdb = list_children(holder.pid)
    os.kill(initdb[0], signal.SIGSTOP)  # so that it cannot finish before the next start
    holder.kill()
    holder.wait()
    server = EmbeddedPostgres(data_dir, settings=FAST)
    with server:
        execute(server, "CREATE TABLE fresh AS SELECT 1")
        assert not (data_dir / "postgres.new").exists()
        assert not (data_dir / "postgres.password.new").exists()
        assert not any(is_running(pid) for pid in initdb)
        server.destroy()
