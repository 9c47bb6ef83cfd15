"""The command line: every command explains itself, and imports no more than it needs to start fast."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from ledger import __version__
from ledger.cli.run import run_cli
from ledger.errors import Forbidden, LedgerError, SettingError, Unavailable
from tests.serving.commands import COMMANDS, LEAVES, is_group, list_examples, make_root, split_call
from tests.serving.process import SERVICE_KEY, build_environment, run_ledger, run_refused

NOWHERE = "postgresql://127.0.0.1:1/none"
IMPORT_TIME = (sys.executable, "-X", "importtime", "-m", "ledger")
WEB = {"fastapi", "starlette", "uvicorn"}
MIGRATIONS = {"alembic", "sqlalchemy"}
WITHOUT_JSON = {
    "ledger serve": "runs until it is stopped; its log is JSON",
    "ledger api": "runs until it is stopped; its log is JSON",
    "ledger worker": "runs until it is stopped; its log is JSON",
    "ledger witness": "runs until it is stopped",
    "ledger feed publish": "runs until it is stopped; its log is JSON",
    "ledger feed read": "its answer is NDJSON",
    "ledger export": "its answer is the export, NDJSON",
    "ledger psql": "its answer is that of psql, which has options for its form",
    "ledger openapi": "its answer is a JSON document",
    "ledger audit archive": "its answer is a folder",
    "ledger audit export": "its answer is the export, NDJSON or Parquet",
    "ledger audit proof": "its answer is a proof file, whose form C2SP defines",
    "ledger erase certificate": "its answer is a signed note, whose form C2SP defines",
}


def test_all_commands_are_there() -> None:
    assert {"ledger serve", "ledger keys roll", "ledger projections rebuild"} <= set(COMMANDS)


@pytest.mark.parametrize("name", [name for name in COMMANDS if is_group(COMMANDS[name])])
def test_no_summary_is_cut_in_a_terminal_of_80_columns(name: str) -> None:
    """The library leaves two columns free."""
    text = COMMANDS[name].get_help(typer.Context(COMMANDS[name], terminal_width=78, info_name=name))
    assert "Commands:" in text
    assert "..." not in text.partition("Commands:")[2]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_explains_itself_its_arguments_and_its_options(name: str) -> None:
    command = COMMANDS[name]
    assert re.fullmatch(r"[A-Z].*\.", command.help.strip(), re.DOTALL), command.help
    for parameter in command.params:
        if not getattr(parameter, "hidden", False):
            assert re.fullmatch(r"[A-Z].*\.", parameter.help or "", re.DOTALL), parameter.name


@pytest.mark.parametrize("name", LEAVES)
def test_arguments_are_in_capitals_and_options_say_their_type(name: str) -> None:
    for parameter in LEAVES[name].params:
        if parameter.param_type_name == "argument":
            [shown] = parameter.get_usage_pieces(typer.Context(LEAVES[name]))
            assert shown == shown.upper(), shown
        else:
            assert parameter.metavar is None, parameter.name


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_has_examples_of_it_which_parse(name: str) -> None:
    examples = list_examples(COMMANDS[name])
    assert examples
    for example in examples:
        assert f"{name} " in f"{example} ", "an example is of the command whose help has it"
        parse(split_call(example))


def parse(arguments: list[str]) -> None:
    """Parse a call down to its last argument. Raises what the command line says of a wrong one."""
    command, context = make_root(), None
    name = "ledger"
    while is_group(command):
        context = command.make_context(name, arguments, parent=context)
        name, command, arguments = command.resolve_command(context, [*context._protected_args, *context.args])
    if not {"-h", "--help"} & set(arguments):
        command.make_context(name, arguments, parent=context)


def test_a_wrong_example_does_not_parse() -> None:
    for wrong in ("keys lst", "keys list --acount x", "keys roll", "keys create acct_1 --kind none"):
        with pytest.raises(typer.TyperException):
            parse(wrong.split())


def test_every_command_with_an_answer_has_it_as_json() -> None:
    without = {
        name
        for name, command in LEAVES.items()
        if not any("--json" in parameter.opts for parameter in command.params)
    }
    assert without == set(WITHOUT_JSON)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ("projection", "status"),
            "No such command: projection. Did you mean: ledger projections? See: ledger",
        ),
        (("keys", "lsit"), "No such command: lsit. Did you mean: ledger keys list? See: ledger keys --help"),
        (("frobnicate",), "No such command: frobnicate. See: ledger --help"),
        (("projections", "fil"), "No such command: fil. "),
        (
            ("keys", "list", "--acount", "x"),
            "No such option: --acount. Did you mean: --account? See: ledger ",
        ),
        (("keys", "roll"), "Missing argument 'KEY'. See: ledger keys roll --help"),
        (("keys", "create", "acct_1", "--kind", "none"), "Invalid value for '--kind': "),
        (("projections", "status", "\x1b[2J", "x"), "Got unexpected extra argument(s) (x). "),
    ],
    ids=lambda value: " ".join(value).encode("ascii", "replace").decode() if type(value) is tuple else "",
)
def test_a_mistyped_call_is_one_line_with_the_nearest_name(
    tmp_path: Path, arguments: tuple[str, ...], line: str
) -> None:
    ended = run_ledger(tmp_path / "data", *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"ledger: {line}")
    assert len(ended.stderr.splitlines()) == 1
    assert "ledger projections fill" not in ended.stderr, "nobody is to call it by hand"


def test_help_is_there_by_a_short_option_and_where_a_command_is_missing(tmp_path: Path) -> None:
    for arguments in (("-h",), ("keys", "-h"), ("projections", "retire", "-h")):
        ended = run_ledger(tmp_path / "data", *arguments)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert "Usage: ledger" in ended.stdout
        assert "Examples:\n    ledger" in ended.stdout
    missing = run_ledger(tmp_path / "data", "keys")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "Usage: ledger keys" in missing.stderr


def test_the_version_is_printed(tmp_path: Path) -> None:
    assert run_ledger(tmp_path / "data", "--version").stdout == f"ledger {__version__}\n"


@pytest.fixture(scope="module")
def completion(place: Path) -> Path:
    """The script for bash that --show-completion prints there, beside the program `ledger` that it asks."""
    program = place / "ledger"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.argv[0] = 'ledger'\nfrom ledger.__main__ import main\nmain()\n"
    )
    program.chmod(0o755)
    script = place / "completion.bash"
    script.write_text(run_bash("ledger --show-completion", place).stdout)
    return script


def run_bash(script: str, place: Path) -> subprocess.CompletedProcess[str]:
    """Run it where `ledger` is the program in the folder `place`."""
    environment = build_environment(place / "data")
    environment["PATH"] = f"{place}:{environment['PATH']}"
    return subprocess.run(
        ["bash", "--norc", "-c", script],
        env=environment,
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["ledger", "pro"], "projections"),
        (["ledger", "projections", "ret"], "retry retire"),
        (["ledger", "projections", "retire", "disputes"], "disputes"),
        (["ledger", "audit", "trial"], "trial-balance"),
        (["ledger", "keys", "list", "--acc"], "--account"),
    ],
    ids=lambda value: " ".join(value) if type(value) is list else "",
)
def test_bash_completes_commands_options_and_names(
    completion: Path, words: list[str], completed: str
) -> None:
    script = f"""
        source {completion}
        COMP_WORDS=({" ".join(words)}); COMP_CWORD={len(words) - 1}
        _ledger_completion ledger; echo "${{COMPREPLY[@]}}"
    """
    ended = run_bash(script, completion.parent)
    assert (ended.stdout.split(), ended.stderr) == (completed.split(), "")


@pytest.mark.parametrize(
    ("arguments", "unneeded"),
    [
        (("accounts", "list"), WEB | MIGRATIONS | {"projections", "prometheus_client", "pypdf"}),
        (("migrate",), WEB | {"projections", "prometheus_client", "pypdf"}),
        (("projections", "status"), WEB | MIGRATIONS | {"pypdf"}),
        (("projections", "rebuild", "--all"), WEB | MIGRATIONS | {"pypdf"}),
        (("audit", "keys"), WEB | MIGRATIONS | {"projections", "pyarrow", "pypdf"}),
        (("audit", "log"), WEB | MIGRATIONS | {"projections", "pyarrow", "pypdf"}),
        (("events", "list"), WEB | MIGRATIONS | {"projections", "pyarrow", "pypdf"}),
        (("trigger", "charge.updated"), WEB | MIGRATIONS | {"projections", "pyarrow", "pypdf"}),
        (("import", "/dev/null"), WEB | MIGRATIONS | {"projections", "pyarrow", "pypdf"}),
        (("worker",), MIGRATIONS | {"pypdf"}),
    ],
)
def test_a_command_imports_only_what_it_needs(
    tmp_path: Path, arguments: tuple[str, ...], unneeded: set[str]
) -> None:
    """Up to the point where it reaches for the database, which is not there."""
    settings = {"database_url": NOWHERE, "secret_key": SERVICE_KEY}
    ended = run_ledger(tmp_path / "data", *arguments, program=IMPORT_TIME, **settings)
    assert "refused" in ended.stderr
    imported = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
    assert "psycopg" in imported
    assert unneeded & imported == set()


def test_the_settings_are_shown_and_unknown_ones_named_without_their_values(tmp_path: Path) -> None:
    settings = {
        "database_url": "postgresql://ada:lovelace@db/x",
        "secret_key": SERVICE_KEY,
        "prot": "lovelace",
    }
    line = "ledger: LEDGER_PROT: unknown setting; did you mean LEDGER_PORT?\n"
    shown = run_ledger(tmp_path / "data", "config", "--json", **settings)
    assert (shown.returncode, shown.stderr) == (0, line)
    document = json.loads(shown.stdout)
    assert document["unknown"] == [{"variable": "LEDGER_PROT", "nearest": "LEDGER_PORT"}]
    values = {row["name"]: (row["value"], row["source"]) for row in document["data"]}
    assert values["LEDGER_DATABASE_URL"] == ("postgresql://ada@db/x", "environment")
    assert values["LEDGER_HOST"] == ("127.0.0.1", "default")
    table = run_ledger(tmp_path / "data", "config", **settings)
    assert "LEDGER_DRAIN_SECONDS\t8\tseconds\tdefault\thow long SIGTERM waits" in table.stdout
    for ended in (shown, table):
        assert "lovelace" not in ended.stdout + ended.stderr
        assert SERVICE_KEY not in ended.stdout
    one = run_ledger(tmp_path / "data", "config", "drain_seconds")
    assert len(one.stdout.splitlines()) == 2
    assert "did you mean LEDGER_DRAIN_SECONDS?" in run_refused(tmp_path / "data", "config", "drain_second")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [("serve",), ("api",), ("worker",), ("migrate",)])
def test_what_runs_the_service_warns_of_unknown_settings(tmp_path: Path, command: tuple[str, ...]) -> None:
    settings = {"database_url": NOWHERE, "secret_key": SERVICE_KEY, "webhook_retry_second_live": "lovelace"}
    ended = run_ledger(tmp_path / "data", *command, **settings)
    warning = ended.stderr.splitlines()[0]
    assert (
        "LEDGER_WEBHOOK_RETRY_SECOND_LIVE: unknown setting; did you mean LEDGER_WEBHOOK_RETRY_SECONDS_LIVE?"
        in (warning)
    )
    assert "lovelace" not in ended.stderr


def test_an_error_that_a_misspelt_setting_may_explain_names_it(tmp_path: Path) -> None:
    missing = run_refused(tmp_path / "data", "keys", "list", databse_url=NOWHERE)
    assert missing.endswith("(LEDGER_DATABSE_URL: unknown setting; did you mean LEDGER_DATABASE_URL?)")
    keyless = run_refused(tmp_path / "data", "keys", "list", database_url=NOWHERE, secretkey=SERVICE_KEY)
    assert "did you mean LEDGER_SECRET_KEY?" in keyless
    assert SERVICE_KEY not in keyless


@pytest.mark.parametrize("error", [SettingError, Unavailable, Forbidden])
def test_an_error_cannot_steer_the_terminal(
    error: type[LedgerError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors quote what callers and foreign files say."""
    cli = typer.Typer()

    @cli.command()
    def fail() -> None:
        raise error("No such object: '\x1b[2J\nfound'")

    monkeypatch.setattr(sys, "argv", ["ledger"])
    with pytest.raises(SystemExit) as ended:
        run_cli(cli)
    assert str(ended.value).endswith("No such object: '\\x1b[2J\\nfound'")
