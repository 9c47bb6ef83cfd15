"""Operator actions are the same from a shell and over HTTP: in refusals, effects, records and documents."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psycopg
import pytest

from ledger.accounts import INTERNAL_SCOPES
from ledger.postgres.connections import open_connection
from projections.operate.shell import OPTION_PARAMETERS
from projections.read_models.catalog import PROJECTIONS, PROJECTIONS_BY_NAME
from projections.read_models.lists import CHARGES, CUSTOMERS
from projections.rebuild import records
from tests.api.answer_schemas import check_answers
from tests.api.service import Registrar
from tests.conftest import Cluster
from tests.forks import start_ledger
from tests.projections.histories import KEY, Author, catch_up, run_story
from tests.projections.rebuilds import OPERATOR, begin_rebuild, drive_rebuild, run_rebuild
from tests.serving.process import PROGRAM, build_environment, run_ledger

START_SECONDS = 30.0
WHY = "a reason"
LONG = "x" * 1001


class Outcome(NamedTuple):
    """What a skin said: a document; or a refusal with its text, over HTTP with status, code and parameter."""

    document: Any = None
    message: str = ""
    status: int | None = None
    code: str | None = None
    param: str | None = None


class Api:
    """`ledger api` alone: no worker comes between a test and what it looks at."""

    def __init__(self, dsn: str, place: Path) -> None:
        self.dsn = dsn
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        settings = {"database_url": dsn, "secret_key": KEY.decode(), "test_clock": True, "port": port}
        self._process = start_ledger(
            ["api"], environment=build_environment(place / "data", **settings), output=place / "api.log"
        )
        url = f"http://127.0.0.1:{port}"
        self._url = f"{url}/internal/v1/projections"
        registrar = Registrar(dsn)
        key = registrar.key(registrar.account().id, "rk", scopes=INTERNAL_SCOPES)[1]
        registrar.close()
        headers = {"authorization": f"Bearer {key}"}
        self._http = httpx.Client(headers=headers, timeout=30, event_hooks=check_answers(url))
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{url}/healthz").status_code == 200:
                    return
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def call(self, method: str, path: str, body: Any = None, key: str | None = None) -> Outcome:
        headers = {} if key is None else {"idempotency-key": key}
        answer = self._http.request(method, f"{self._url}{path}", json=body, headers=headers)
        if answer.status_code == 200:
            return Outcome(answer.json())
        error = answer.json()["error"]
        return Outcome(None, error["message"], answer.status_code, error.get("code"), error.get("param"))

    def stop(self) -> None:
        self._http.close()
        self._process.terminate()
        self._process.wait()


class Shell:
    """`ledger projections …`."""

    def __init__(self, dsn: str, place: Path) -> None:
        self._data_dir = place / "data"
        self._settings: dict[str, Any] = {"database_url": dsn, "secret_key": KEY.decode(), "test_clock": True}

    def run(self, *arguments: str) -> tuple[int | str, str]:
        """`run_as_typed`, with the answer to what would be asked."""
        return self.run_as_typed(*arguments, *(("--yes",) if arguments[0] == "retire" else ()))

    def run_as_typed(self, *arguments: str) -> tuple[int | str, str]:
        """Exit status, or the line of a refusal, which is status 1; and what was printed."""
        done = run_ledger(self._data_dir, "projections", *arguments, **self._settings)
        refusal = next((line for line in done.stderr.splitlines() if line.startswith("ledger: ")), None)
        return refusal or done.returncode, done.stdout

    def answer(self, typed: str, *arguments: str) -> tuple[int, str]:
        """Run on a terminal, and type this when asked: exit status, and what the terminal showed."""
        environment = build_environment(self._data_dir, **self._settings)
        master, terminal = pty.openpty()
        with subprocess.Popen(
            [*PROGRAM, "projections", *arguments], env=environment, cwd=self._data_dir.parent,
            stdin=terminal, stdout=terminal, stderr=terminal, preexec_fn=_take_terminal,
        ) as process:  # fmt: skip
            os.close(terminal)
            shown = b""
            with contextlib.suppress(OSError):  # the other end is closed
                for _ in range(int(START_SECONDS)):
                    # Again each second: Python misses a Ctrl-C that comes just before it waits for a line.
                    if b"[y/N]: " in shown:
                        os.write(master, typed.encode())
                    while select.select([master], [], [], 1.0)[0]:
                        was_asked = b"[y/N]: " in shown
                        shown += os.read(master, 4096)
                        if b"[y/N]: " in shown and not was_asked:
                            os.write(master, typed.encode())
                process.kill()
            status = process.wait(START_SECONDS)
        os.close(master)
        return status, shown.decode()

    def begins(self, *arguments: str) -> subprocess.Popen[str]:
        """A command, left running, which can be interrupted."""
        return subprocess.Popen(
            [*PROGRAM, "projections", *arguments],
            env=build_environment(self._data_dir, **self._settings),
            cwd=self._data_dir.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_heed_interrupts,
        )

    def call(self, *arguments: str) -> Outcome:
        status, printed = self.run(*arguments)
        if isinstance(status, str):
            assert printed == ""
            return Outcome(message=status.removeprefix("ledger: "))
        assert status == 0, printed
        return Outcome(json.loads(printed) if "--json" in arguments else printed)


def _heed_interrupts() -> None:
    """What runs in the background of a shell ignores SIGINT, and so do its children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _take_terminal() -> None:
    """Make standard input the terminal that Ctrl-C is typed on."""
    _heed_interrupts()
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture(scope="module")
def api(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with cluster.create_database() as dsn:
        run_story(dsn, write_history)
        api = Api(dsn, tmp_path_factory.mktemp("api"))
        yield api
        api.stop()


@pytest.fixture
def shell(api: Api, tmp_path: Path) -> Shell:
    return Shell(api.dsn, tmp_path)


async def write_history(author: Author) -> None:
    """A paused rebuild of customers and one of charges that differs; the others have never been rebuilt."""
    await author.create_customer(email="one@example.com")
    await author.open_dispute(await author.create_charge())
    await catch_up(author.dsn)
    async with open_connection(author.dsn, "ledger_projector", name="test") as conn:
        await conn.execute("UPDATE projections.charges SET transfer_group = 'drifted'")
        assert (await run_rebuild(author.dsn, [CHARGES])).state == "differing"
        await records.pause(conn, await begin_rebuild(author.dsn, [CUSTOMERS]), OPERATOR)


class Refusal(NamedTuple):
    """One action as both skins take it, and how both refuse it. HTTP checks the range of a number and the
    length of a text before the action does, `in_own_words`."""

    options: str
    call: tuple[str, dict[str, Any] | None]
    status: int
    message: str
    param: str | None = None
    code: str | None = None
    method: str = "POST"
    in_own_words: bool = False


def conflict(options: str, path: str, body: dict[str, Any] | None, message: str) -> Refusal:
    """What the state of a projection does not allow."""
    return Refusal(options, (path, body), 409, message, code="projection_state")


def out_of_range(options: str, path: str, body: dict[str, Any], param: str, message: str) -> Refusal:
    return Refusal(options, (path, body), 400, message, param, in_own_words=True)


WORKERS_RANGE, SAMPLE_RANGE = "Must be 1 to 64.", "Must be 1 to 10000."
UNKNOWN = "No such projection: 'nothing'"
REFUSALS = [
    Refusal("show nothing", ("/nothing", None), 404, UNKNOWN, "name", "resource_missing", "GET"),
    Refusal("diff nothing", ("/nothing/diff", None), 404, UNKNOWN, "name", "resource_missing", "GET"),
    *(
        Refusal(f"{verb} nothing", (f"/nothing/{verb}", {}), 404, UNKNOWN, "name", "resource_missing")
        for verb in ("pause", "resume", "cancel", "switch", "rollback", "retire")
    ),
    Refusal("retry nothing cus_1", ("/nothing/parked/cus_1/retry", {}), 404, UNKNOWN, "name",
            "resource_missing"),
    *(
        Refusal(f"{verb} files nothing", (f"/{verb}", {"names": ["files", "nothing"]}), 400, UNKNOWN, "names",
                "resource_missing")
        for verb in ("rebuild", "verify")
    ),
    Refusal("rebuild", ("/rebuild", {}), 400, "Name projections, or pass all (in the shell: --all).",
            "names"),
    *(
        Refusal(f"{verb} files --all", (f"/{verb}", {"names": ["files"], "all": True}), 400,
                "Name projections, or ask for all: not both.", "all")
        for verb in ("rebuild", "verify")
    ),
    out_of_range("rebuild files --workers 0", "/files/rebuild", {"workers": 0}, "workers", WORKERS_RANGE),
    out_of_range("rebuild files --workers 65", "/files/rebuild", {"workers": 65}, "workers", WORKERS_RANGE),
    out_of_range("verify files --sample 0", "/files/verify", {"sample": 0}, "sample", SAMPLE_RANGE),
    out_of_range("verify --sample 10001", "/verify", {"sample": 10001}, "sample", SAMPLE_RANGE),
    out_of_range("switch files --generation 0", "/files/switch", {"generation": 0}, "generation",
                 "Must be 1 to 2147483647."),
    out_of_range("retire files --generation 0", "/files/retire", {"generation": 0}, "generation",
                 "Must be 1 to 2147483647."),
    out_of_range(f"pause files --reason {LONG}", "/files/pause", {"reason": LONG}, "reason",
                 "Must be text of at most 1000 characters."),
    *(
        Refusal(f"{verb} files --accept-differences", (f"/files/{verb}", {"accept_differences": True}), 400,
                "Give a reason for accepting the differences; it is kept on record.", "reason",
                "parameter_missing")
        for verb in ("rebuild", "switch")
    ),
    Refusal("switch files --generation 1 --accept-differences --reason x",
            ("/files/switch", {"generation": 1, "accept_differences": True, "reason": "x"}), 400,
            "Accept the differences of a rebuild, or name a generation: not both.", "accept_differences"),
    Refusal("retire gone --removed", ("/gone/retire", {"removed": True}), 400,
            "Give a reason for dropping the projection; it is kept on record.", "reason",
            "parameter_missing"),
    Refusal("retire gone --removed --generation 1 --reason x",
            ("/gone/retire", {"removed": True, "generation": 1, "reason": "x"}), 400,
            "A removed projection is dropped with all its generations: name none.", "generation"),
    conflict("rebuild customers", "/customers/rebuild", {}, "rebuild 2 of customers, started by ada@example"),
    conflict("rebuild charges", "/charges/rebuild", {}, "rebuild 1 of charges, started by ada@example at "),
    *(
        conflict(f"{verb} disputes", f"/disputes/{verb}", {}, "disputes is not being rebuilt.")
        for verb in ("pause", "resume", "cancel", "switch")
    ),
    conflict("pause charges", "/charges/pause", {},
             "rebuild 1 waits for a decision on its differences: accept or cancel it."),
    conflict("switch charges", "/charges/switch", {},
             "rebuild 1 of charges: the rebuilt rows differ from the live rows. Look at the differences"),
    conflict("switch customers", "/customers/switch", {}, "rebuild 2 of customers is filling (paused): it"),
    conflict("switch customers --accept-differences --reason x", "/customers/switch",
             {"accept_differences": True, "reason": "x"},
             "rebuild 2 is filling: it has no differences to accept."),
    conflict("switch files --generation 9", "/files/switch", {"generation": 9}, "files has no generation 9."),
    conflict("switch files --generation 1", "/files/switch", {"generation": 1},
             "generation 1 of files is already live."),
    conflict("switch charges --generation 2", "/charges/switch", {"generation": 2},
             "rebuild 1 is building generation 2 of charges: accept or cancel the rebuild first."),
    conflict("diff files", "/files/diff", None, "files has not been compared with a rebuild yet.")
    ._replace(method="GET"),
    conflict("rollback files", "/files/rollback", {},
             "files has never been switched: there is nothing to roll back to."),
    conflict("retire files --generation 1", "/files/retire", {"generation": 1},
             "generation 1 of files is live: switch to another generation first."),
    conflict("retire files --generation 9", "/files/retire", {"generation": 9}, "files has no generation 9."),
    conflict("retire charges --generation 2", "/charges/retire", {"generation": 2},
             "rebuild 1 is building generation 2 of charges: accept or cancel the rebuild first."),
    conflict("retire files --removed --reason x", "/files/retire", {"removed": True, "reason": "x"},
             "files is a projection of this release."),
    conflict("retry files file_1", "/files/parked/file_1/retry", {}, "Stream file_1 is not parked"),
]  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS, ids=lambda case: case.options[:60])
def test_shell_and_http_refuse_alike_and_change_nothing(api: Api, shell: Shell, case: Refusal) -> None:
    before = dump(api.dsn)
    path, body = case.call
    over_http = api.call(case.method, path, body)
    assert (over_http.status, over_http.code, over_http.param) == (case.status, case.code, case.param), (
        over_http
    )
    in_shell = shell.call(*case.options.split(" "))
    option = f"--{str(case.param).replace('_', '-')}: " if case.param in OPTION_PARAMETERS else ""
    assert in_shell.message.startswith(option + case.message), in_shell
    assert case.in_own_words or in_shell.message == option + over_http.message
    assert dump(api.dsn) == before


def dump(dsn: str) -> list[Any]:
    """All that operators change."""
    tables = ("rebuilds", "builds", "shares", "live", "checkpoints", "parked", "operations")
    with psycopg.connect(dsn) as conn:
        return [
            conn.execute(f"SELECT * FROM projections.{table} ORDER BY 1, 2".encode()).fetchall()
            for table in tables
        ]


class Skin:
    """One way to operate, on a projection of its own, so that both go through the same states."""

    def __init__(self, name: str, api: Api, shell: Shell, *, over_http: bool) -> None:
        self.name = name
        self.dsn = api.dsn
        self._api = api
        self._shell = shell
        self._over_http = over_http

    def does(self, verb: str, **options: Any) -> None:
        """An action that succeeds."""
        if self._over_http:
            outcome = self._api.call("POST", f"/{self.name}/{verb}", options)
        else:
            arguments = [
                f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}")
                for name, value in options.items()
            ]
            outcome = self._shell.call(verb, self.name, *arguments)
        assert outcome.document is not None, outcome

    def runs(self, verb: str, **options: Any) -> None:
        """A rebuild begun or continued until it ends: a shell drives it itself, over HTTP a worker does."""
        self.does(verb, **options)
        if self._over_http:
            drive(self.dsn)

    def shows(self) -> dict[str, Any]:
        document: dict[str, Any] = self._api.call("GET", f"/{self.name}").document
        assert document == without_times(self._shell.call("show", self.name, "--json").document, document)
        return document


def without_times(document: Any, other: Any) -> Any:
    """The same, save that of a rebuild under way the seconds go on."""
    if document.get("rebuild") is not None:
        for field in ("seconds", "events_per_second"):
            document["rebuild"][field] = other["rebuild"][field]
    for mine, theirs in zip(document["generations"], other["generations"], strict=True):
        mine["seconds"] = theirs["seconds"]
    return document


def drive(dsn: str) -> None:
    """A worker's part: drives what should be driven."""

    async def story(author: Author) -> None:
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            for number in await records.list_runnable(conn, PROJECTIONS):
                await drive_rebuild(dsn, number)

    run_story(dsn, story)


def begin(dsn: str, name: str) -> None:
    """A rebuild that nobody drives."""

    async def story(author: Author) -> None:
        await begin_rebuild(dsn, [PROJECTIONS_BY_NAME[name]])

    run_story(dsn, story)


def execute(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(statement.encode())


@pytest.mark.parametrize("over_http", [False, True], ids=["shell", "http"])
def test_shell_and_http_have_the_same_effect_and_the_same_record(
    api: Api, shell: Shell, over_http: bool
) -> None:
    name = "file_links" if over_http else "refunds"
    skin = Skin(name, api, shell, over_http=over_http)
    begin(api.dsn, name)
    skin.does("pause", reason=WHY)
    assert skin.shows()["rebuild"]["paused"]
    skin.runs("resume", reason=WHY)
    assert skin.shows()["live"] == 2
    skin.does("rollback", reason=WHY)
    assert skin.shows()["live"] == 1
    skin.does("switch", generation=2, reason=WHY)
    assert skin.shows()["live"] == 2
    skin.does("retire", reason=WHY)
    assert [each["generation"] for each in skin.shows()["generations"]] == [2]
    begin(api.dsn, name)
    skin.does("cancel", reason=WHY)
    assert skin.shows()["rebuild"] is None
    skin.runs("rebuild", workers=2, accept_differences=True, reason=WHY)
    assert skin.shows()["live"] == 4
    skin.does("retire", generation=2, reason=WHY)
    operations = [
        (each["action"], each["generation"], each["reason"]) for each in skin.shows()["operations"][::-1]
    ]
    assert operations == [
        ("rebuild", 2, "a test"), ("pause", 2, WHY), ("resume", 2, WHY),
        ("compare", 2, "a test"), ("switch", 2, "a test"),
        ("rollback", 1, WHY), ("switch", 2, WHY), ("retire", 1, WHY),
        ("rebuild", 3, "a test"), ("cancel", 3, WHY),
        ("rebuild", 4, WHY), ("compare", 4, WHY), ("switch", 4, WHY), ("retire", 2, WHY),
    ]  # fmt: skip


def test_actions_in_a_shell_answer_with_the_json_of_http(api: Api, shell: Shell) -> None:
    name = "webhook_endpoints"
    begin(api.dsn, name)
    paused = shell.call("pause", name, "--json").document
    assert paused["paused"]
    assert paused.keys() == api.call("GET", f"/{name}").document["rebuild"].keys()
    assert shell.call("cancel", name, "--json").document["state"] == "cancelled"
    begin(api.dsn, name)
    drive(api.dsn)
    switched = shell.call("rollback", name, "--json").document
    assert (switched["name"], switched["live"]) == (name, 1)
    assert shell.call("switch", name, "--generation", "3", "--json").document["live"] == 3
    retired = shell.call("retire", name, "--json").document
    assert retired["dropped"] == [1]
    listed = api.call("GET", f"/{name}").document
    assert [each["generation"] for each in retired["generations"]] == [3]
    assert retired.keys() - listed.keys() == {"dropped"}
    one = shell.call("status", name, "--json").document
    assert [each["name"] for each in one["data"]] == [name]
    assert shell.call("status", "nothing").message == UNKNOWN


def test_retiring_is_asked_for_on_a_terminal_and_refused_elsewhere(api: Api, shell: Shell) -> None:
    name = "payment_methods"
    begin(api.dsn, name)
    drive(api.dsn)
    before = dump(api.dsn)
    refusal, _ = shell.run_as_typed("retire", name)
    assert re.match(f"ledger: This drops generation 1 of {name}: [0-9.]+ kB\\. There is no", str(refusal))
    execute(api.dsn, f"ANALYZE projections.{name}_g1")
    refusal, printed = shell.run_as_typed("retire", name)
    assert printed == ""
    assert str(refusal).startswith(f"ledger: This drops generation 1 of {name}: about 1 row, ")
    assert str(refusal).endswith("pass --yes: there is no terminal to ask on")
    for answer in ("\n", "\x03"):
        status, shown = shell.answer(answer, "retire", name)
        assert (status, "Go on? [y/N]" in shown) == (1, True)
        assert shown.rstrip().endswith("ledger: nothing was changed")
    assert dump(api.dsn) == before
    status, shown = shell.answer("y\n", "retire", name)
    assert (status, f"Dropped of {name}: 1" in shown) == (0, True)


def test_watching_prints_each_change_until_ctrl_c(api: Api, shell: Shell) -> None:
    name = "charges"
    text, documents = (
        shell.begins("status", name, "--watch"),
        shell.begins("status", name, "--watch", "--json"),
    )
    assert text.stdout is not None
    assert documents.stdout is not None
    header, first = text.stdout.readline(), text.stdout.readline()
    assert header.startswith("time\tprojection\tgeneration\t")
    assert first.split("\t")[1:4] == [name, "1", "live"]
    assert json.loads(documents.stdout.readline())["data"][0]["name"] == name
    execute(api.dsn, f"UPDATE projections.live SET generation = 2 WHERE projection = '{name}'")
    try:
        changed = []
        while "live" not in changed:
            changed = text.stdout.readline().split("\t")
        assert changed[1:4] == [name, "2", "live"]
        assert json.loads(documents.stdout.readline())["data"][0]["live"] == 2
    finally:
        execute(api.dsn, f"UPDATE projections.live SET generation = 1 WHERE projection = '{name}'")
    for process in (text, documents):
        process.send_signal(signal.SIGINT)
        assert (process.wait(START_SECONDS), process.communicate()[1]) == (0, "")


@pytest.mark.parametrize("over_http", [False, True], ids=["shell", "http"])
def test_shell_and_http_promote_a_rebuild_that_differs_with_a_reason(
    api: Api, shell: Shell, over_http: bool
) -> None:
    name, column = ("feed", "type") if over_http else ("disputes", "charge")
    skin = Skin(name, api, shell, over_http=over_http)
    execute(api.dsn, f"UPDATE projections.{name} SET {column} = 'drifted'")
    begin(api.dsn, name)
    drive(api.dsn)
    assert skin.shows()["rebuild"]["state"] == "differing"
    skin.does("switch", accept_differences=True, reason=WHY)
    assert skin.shows()["live"] == 2
    latest = skin.shows()["operations"][0]
    assert (latest["action"], latest["generation"], latest["reason"]) == ("switch", 2, WHY)
    assert (latest["details"]["from"], latest["details"]["accepted"]) == (1, True)
    compared = api.call("GET", f"/{name}/diff").document
    assert compared["differences"]
    assert shell.call("diff", name, "--json").document == compared


@pytest.mark.parametrize("over_http", [False, True], ids=["shell", "http"])
def test_shell_and_http_retry_a_parked_stream(api: Api, shell: Shell, over_http: bool) -> None:
    execute(
        api.dsn,
        "INSERT INTO projections.parked (projection, generation, stream, position, error) "
        "SELECT 'customers', 1, id, position, 'a test' FROM projections.customers WHERE generation = 1",
    )
    (parked,) = api.call("GET", "/customers").document["generations"][0]["parked"]
    if over_http:
        healed = api.call("POST", f"/customers/parked/{parked['stream']}/retry", {"reason": WHY}).document
        assert (healed["healed"], healed["left_out_of"]) == (True, [])
    else:
        printed = shell.call("retry", "customers", parked["stream"], "--reason", WHY).document
        assert printed == f"{parked['stream']} is no longer parked in customers.\n"
    shown = api.call("GET", "/customers").document
    assert not shown["generations"][0]["parked"]
    assert (shown["operations"][0]["action"], shown["operations"][0]["reason"]) == ("retry", WHY)


@pytest.mark.parametrize("over_http", [False, True], ids=["shell", "http"])
def test_shell_and_http_drop_a_projection_that_no_release_has(
    api: Api, shell: Shell, over_http: bool
) -> None:
    execute(
        api.dsn,
        "CREATE TABLE projections.gone_g1 (id text); CREATE TABLE projections.gone_g2 (id text); "
        "ALTER TABLE projections.gone_g1 OWNER TO ledger_projector; "
        "ALTER TABLE projections.gone_g2 OWNER TO ledger_projector; "
        "INSERT INTO projections.checkpoints (projection, generation) VALUES ('gone', 1), ('gone', 2); "
        "INSERT INTO projections.live (projection, generation) VALUES ('gone', 1)",
    )
    if over_http:
        for _ in range(2):  # a call is repeated when its response was lost
            body = {"removed": True, "reason": WHY}
            answer = api.call("POST", "/gone/retire", body, key="the-last-of-it")
            assert answer.document == {"name": "gone", "live": None, "incomplete": False, "generations": []}
    else:
        dropped = shell.call("retire", "gone", "--removed", "--reason", WHY).document
        assert dropped == "Dropped of gone: 1, 2\n"
    with psycopg.connect(api.dsn) as conn:
        left = conn.execute("SELECT to_regclass('projections.gone_g1'), to_regclass('projections.gone_g2')")
        assert left.fetchall() == [(None, None)]
        records_of_it = conn.execute(
            "SELECT generation, action, reason FROM projections.operations WHERE projection = 'gone' "
            "ORDER BY id DESC LIMIT 2"
        )
        assert records_of_it.fetchall() == [(2, "retire", WHY), (1, "retire", WHY)]
    assert api.call("GET", "/gone").status == 404


def test_shell_and_http_verify_one_or_all_projections_whole_or_by_sample(api: Api, shell: Shell) -> None:
    for body, options in (
        ({}, []),
        ({"all": True}, ["--all"]),
        ({"names": ["customers", "refunds"]}, ["customers", "refunds"]),
        ({"names": ["customers"], "sample": 5}, ["customers", "--sample", "5"]),
    ):
        over_http = api.call("POST", "/verify", body).document["data"]
        status, printed = shell.run("verify", *options, "--json")
        assert json.loads(printed) == over_http
        assert status == (1 if any(each["differing"] for each in over_http) else 0)
        assert [each["projection"] for each in over_http] == body.get("names", [*PROJECTIONS_BY_NAME])
        assert all((each["digest"] is None) == ("sample" in body) for each in over_http)
    assert api.call("POST", "/customers/verify", {}).document["digest"] is not None, "all of it"
    assert api.call("POST", "/customers/verify", {"sample": 5}).document["digest"] is None


def test_shell_and_http_report_that_a_generation_of_another_shape_is_not_verified(
    api: Api, shell: Shell
) -> None:
    why = "it is not live in this release's shape"
    shape = "UPDATE projections.checkpoints SET shape = {} WHERE projection = 'webhook_endpoints'"
    execute(api.dsn, shape.format(9))
    try:
        status, printed = shell.run("verify", "webhook_endpoints", "refunds")
        assert status == 1
        assert printed.endswith(f"webhook_endpoints: not verified: {why}\n")
        status, printed = shell.run("verify", "webhook_endpoints", "refunds", "--json")
        assert status == 1
        assert api.call("POST", "/verify", {"names": ["webhook_endpoints", "refunds"]}).document["data"] == (
            json.loads(printed)
        )
        assert [each["error"] for each in json.loads(printed)] == [why, None]
        refused = api.call("POST", "/webhook_endpoints/verify", {})
        assert refused[1:4] == (f"webhook_endpoints: not verified: {why}", 409, "projection_state")
    finally:
        execute(api.dsn, shape.format(1))


def test_shell_and_http_show_all_projections_in_one_document(api: Api, shell: Shell) -> None:
    over_http, in_shell = api.call("GET", "").document, shell.call("status", "--json").document
    assert [each["name"] for each in over_http["data"]] == sorted(PROJECTIONS_BY_NAME)
    assert [each["name"] for each in in_shell["data"]] == sorted(PROJECTIONS_BY_NAME)
    assert (
        [each["id"] for each in in_shell["rebuilds"]] == [each["id"] for each in over_http["rebuilds"]] != []
    )
    _, printed = shell.run("show", "charges")
    assert "rebuild 1 of charges: differing" in printed
    assert "\tada@example\trebuild\t2\t" in printed
