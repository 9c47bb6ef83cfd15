"""A Patroni cluster on this machine, with the files of deploy/patroni: etcd, three nodes, HAProxy.

Every program is real, listens on free ports of 127.0.0.1 and works in one temporary directory. As root the
nodes run as the user that runs the embedded server: with the right to read what only root can, because Python
and Patroni may be installed where only root looks.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import psycopg

from ledger.postgres.binaries import ServerUser, choose_server_user, find_binaries
from ledger.postgres.leftovers import end_processes
from tests.api.service import ROOT
from tests.ha.processes import Program, find_free_ports
from tests.webhooks.receiver import wait_until

DEPLOY = ROOT / "deploy" / "patroni"
PATRONI = ROOT / ".clients" / "patroni"
NAMES = ("node1", "node2", "node3")
LEASE_SECONDS = 20
"""`ttl` in deploy/patroni/patroni.yml."""
READY_SECONDS = 120.0
PASSWORDS = {
    "PATRONI_SUPERUSER_PASSWORD": "superuser-of-these-tests",
    "PATRONI_REPLICATION_PASSWORD": "replicator-of-these-tests",
    "PATRONI_REWIND_PASSWORD": "rewinder-of-these-tests",
    "PATRONI_RESTAPI_PASSWORD": "rest-of-these-tests",
    "LEDGER_OWNER_PASSWORD": "owner-of-these-tests",
}
USERS = {
    "PATRONI_SUPERUSER_USERNAME": "postgres",
    "PATRONI_REPLICATION_USERNAME": "replicator",
    "PATRONI_REWIND_USERNAME": "rewinder",
    "PATRONI_RESTAPI_USERNAME": "patroni",
}


def name_missing() -> str | None:
    """Why there can be no cluster here; None when there can."""
    programs = {"etcd": "etcd-server", "haproxy": "haproxy"}
    for program, package in programs.items():
        if find_program(program) is None:
            return f"no {program} here (Debian: apt-get install {package})"
    installed, wanted = PATRONI / ".installed", DEPLOY / "requirements.txt"
    if not installed.exists() or installed.read_text() != wanted.read_text():
        return "Patroni is not here, or in another release: make test-ha"
    command: list[str | Path] = [
        *enter_user(choose_server_user(Path("/nowhere"))),
        PATRONI / "bin" / "patroni",
        "--version",
    ]
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"Patroni does not run here: {tried.stderr.strip()[-200:]}"


def find_program(name: str) -> str | None:
    """Its path. Debian has HAProxy where only root's PATH leads."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def enter_user(user: ServerUser) -> list[str]:
    """The beginning of a command that runs as `user`; empty for our own."""
    if user.uid is None:
        return []
    reads_all = "+dac_read_search,+dac_override"
    identity = [f"--reuid={user.uid}", f"--regid={user.gid}", "--clear-groups"]
    return ["setpriv", *identity, f"--inh-caps={reads_all}", f"--ambient-caps={reads_all}"]


class Node(Program):
    """Patroni with the Postgres that it runs. `port` is Postgres', `rest_port` Patroni's."""

    def __init__(self, name: str, place: Path, etcd: str, user: ServerUser, bin_dir: Path) -> None:
        self.name = name
        self.port, self.rest_port = find_free_ports(2)
        place.mkdir()
        user.chown(place)
        self.data_dir = place / "data"
        own = {
            "PATH": f"{DEPLOY}:{bin_dir}:/usr/bin:/bin",
            "HOME": str(place),
            "LC_ALL": "C.UTF-8",
            "PATRONI_NAME": name,
            "PATRONI_ETCD3_HOSTS": etcd,
            "PATRONI_RESTAPI_LISTEN": f"127.0.0.1:{self.rest_port}",
            "PATRONI_RESTAPI_CONNECT_ADDRESS": f"127.0.0.1:{self.rest_port}",
            "PATRONI_POSTGRESQL_LISTEN": f"127.0.0.1:{self.port}",
            "PATRONI_POSTGRESQL_CONNECT_ADDRESS": f"127.0.0.1:{self.port}",
            "PATRONI_POSTGRESQL_DATA_DIR": str(self.data_dir),
            "PATRONI_POSTGRESQL_BIN_DIR": str(bin_dir),
            "PATRONI_POSTGRESQL_PGPASS": str(place / "pgpass"),
        }
        command: list[str | Path] = [*enter_user(user), PATRONI / "bin" / "patroni", DEPLOY / "patroni.yml"]
        super().__init__(command, place, own | USERS | PASSWORDS, "patroni")

    def ask(self, path: str) -> int | None:
        """The status with which Patroni answers on `path`; None without an answer."""
        with suppress(httpx.TransportError):
            return httpx.get(f"http://127.0.0.1:{self.rest_port}/{path}", timeout=2).status_code
        return None

    @property
    def dsn(self) -> str:
        """The superuser's connection string to this node, whatever its role."""
        password = PASSWORDS["PATRONI_SUPERUSER_PASSWORD"]
        return f"postgresql://postgres:{password}@127.0.0.1:{self.port}/postgres?connect_timeout=3"

    def list_processes(self) -> list[int]:
        """Process ids of Patroni and of its Postgres, its children among them: those that work in its data
        directory."""
        pids = [self.process.pid] if self.process is not None and self.is_running else []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (process / "cwd").samefile(self.data_dir):
                    pids.append(int(process.name))
        return pids

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to Patroni and to each process of its Postgres."""
        # Patroni first, so that it sees nothing of the others. Twice: one may have started meanwhile.
        for pid in [*self.list_processes(), *self.list_processes()]:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def lose(self) -> None:
        """The node is lost at once, as a machine is that loses power."""
        self.signal_all(signal.SIGKILL)
        self.kill()

    def kill(self) -> None:
        """End Patroni at once, and its Postgres so that it leaves nothing in shared memory."""
        self.signal_all(signal.SIGCONT)
        super().kill()
        end_processes(self.data_dir)


class PatroniCluster:
    """etcd, the nodes and HAProxy; `dsn` leads to the primary, `replica_dsn` to a standby."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.user = choose_server_user(Path("/nowhere"))
        self._bin_dir = find_binaries(self.user, place).bin_dir
        client_port, peer_port, self.port, self.replica_port = find_free_ports(4)
        self._etcd_address = f"127.0.0.1:{client_port}"
        self.etcd = self._make_etcd(client_port, peer_port)
        self.nodes = [
            Node(name, place / name, self._etcd_address, self.user, self._bin_dir) for name in NAMES
        ]
        self.haproxy = self._make_haproxy()
        self.programs: list[Program] = [self.etcd, *self.nodes, self.haproxy]

    def _make_etcd(self, client_port: int, peer_port: int) -> Program:
        client, peer = f"http://127.0.0.1:{client_port}", f"http://127.0.0.1:{peer_port}"
        program = find_program("etcd")
        assert program is not None
        options = [
            "--name=etcd", f"--data-dir={self.place / 'etcd'}", "--log-level=error", "--logger=zap",
            f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=etcd={peer}",
        ]  # fmt: skip
        return Program([program, *options], self.place, {"PATH": "/usr/bin:/bin"}, "etcd")

    def _make_haproxy(self) -> Program:
        addresses = {
            "PRIMARY_BIND": f"127.0.0.1:{self.port}",
            "REPLICA_BIND": f"127.0.0.1:{self.replica_port}",
        }
        for node in self.nodes:
            addresses[node.name.upper()] = f"127.0.0.1:{node.port}"
            addresses[f"{node.name.upper()}_CHECK_PORT"] = str(node.rest_port)
        program = find_program("haproxy")
        assert program is not None
        return Program([program, "-db", "-f", DEPLOY / "haproxy.cfg"], self.place, addresses, "haproxy")

    def start(self) -> None:
        """Start all, and wait until the cluster is whole."""
        self.etcd.start()
        wait_until(self._is_etcd_healthy)
        self.haproxy.start()
        for node in self.nodes:
            node.start()
        self.wait_until_whole()

    def _is_etcd_healthy(self) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"http://{self._etcd_address}/health", timeout=2).status_code == 200
        return False

    def stop(self) -> None:
        """End every process, whatever state it is in."""
        with ExitStack() as stack:
            for program in self.programs:
                stack.callback(program.kill)

    @property
    def dsn(self) -> str:
        """The owner's connection string through HAProxy, to the primary."""
        return self.build_dsn("ledger", "LEDGER_OWNER_PASSWORD", self.port)

    @property
    def replica_dsn(self) -> str:
        """The same, to a standby."""
        return self.build_dsn("ledger", "LEDGER_OWNER_PASSWORD", self.replica_port)

    def build_dsn(self, user: str, password: str, port: int, database: str = "ledger") -> str:
        return f"postgresql://{user}:{PASSWORDS[password]}@127.0.0.1:{port}/{database}"

    def find_primary(self) -> Node | None:
        """The node whose Patroni holds the lease."""
        return next((node for node in self.nodes if node.ask("primary") == 200), None)

    def get_primary(self) -> Node:
        primary = wait_until(self.find_primary, seconds=READY_SECONDS)
        assert isinstance(primary, Node)
        return primary

    def get_standbys(self) -> list[Node]:
        primary = self.get_primary()
        return [node for node in self.nodes if node is not primary]

    def read_state(self) -> Mapping[str, Any]:
        """What Patroni says of the cluster; empty without an answer."""
        for node in self.nodes:
            with suppress(httpx.TransportError, json.JSONDecodeError):
                response = httpx.get(f"http://127.0.0.1:{node.rest_port}/cluster", timeout=2)
                state: Mapping[str, Any] = response.json()
                return state
        return {}

    def is_whole(self) -> bool:
        """Whether there is a primary with both standbys, each of which may acknowledge a commit."""
        primary = self.find_primary()
        if primary is None:
            return False
        members = self.read_state().get("members", [])
        # What Patroni has recorded: Postgres may count a standby before that, which may not take over yet.
        standbys = [
            each for each in members if (each["role"], each["state"]) == ("quorum_standby", "streaming")
        ]
        return len(standbys) == len(NAMES) - 1 and self.leads_to(primary)

    def leads_to(self, node: Node) -> bool:
        """Whether HAProxy leads to this node as the primary, and to a standby for reads."""
        with suppress(psycopg.OperationalError):
            with psycopg.connect(self.dsn, connect_timeout=3) as conn:
                row = conn.execute("SELECT inet_server_port(), pg_is_in_recovery()").fetchone()
            with psycopg.connect(self.replica_dsn, connect_timeout=3) as conn:
                other = conn.execute("SELECT pg_is_in_recovery()").fetchone()
            return row == (node.port, False) and other == (True,)
        return False

    def wait_until_whole(self, seconds: float = READY_SECONDS) -> None:
        """Wait until all three nodes take part again. A node whose Patroni has ended is started, as its
        supervisor would."""
        deadline = time.monotonic() + seconds
        while not self.is_whole():
            for program in self.programs:
                if not program.is_running:
                    program.start()
            assert time.monotonic() < deadline, self.describe()
            time.sleep(0.5)

    def wait_for_other_primary(self, than: Node, *, seconds: float) -> Node:
        """The node that has taken over."""

        def find() -> Node | None:
            primary = self.find_primary()
            return primary if primary is not than else None

        found = wait_until(find, seconds=seconds)
        assert isinstance(found, Node)
        return found

    def switch_over(self) -> None:
        """Let a standby take over, as an operator does: without naming one, so the other follows at once."""
        primary = self.get_primary()
        program = [PATRONI / "bin" / "patronictl", "-c", DEPLOY / "patroni.yml"]
        completed = subprocess.run(
            [*map(str, program), "switchover", "ledger", "--primary", primary.name, "--force"],
            env=primary.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        output = completed.stdout + completed.stderr
        assert completed.returncode == 0, output
        assert "Successfully switched over" in output, output

    def describe(self) -> str:
        """The state, and the end of each program's log: for the message of a failed test."""
        logs = [f"--- {each.log_file}\n{each.log[-2500:]}" for each in self.programs]
        return "\n".join([json.dumps(self.read_state(), indent=1), *logs])
