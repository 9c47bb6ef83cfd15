"""The command line: every command explains itself, and imports no more than it needs to start fast."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from ledger.__main__ import LedgerGroup
from ledger.cli.app import build_cli, run_cli
from ledger.config import Settings
from ledger.errors import Forbidden, LedgerError, SettingError, Unavailable
from tests.serving.process import SERVICE_KEY, run_ledger

NOWHERE = "postgresql://127.0.0.1:1/none"
IMPORT_TIME = (sys.executable, "-X", "importtime", "-m", "ledger")
WEB = {"fastapi", "starlette", "uvicorn"}
MIGRATIONS = {"alembic", "sqlalchemy"}


def all_commands() -> Iterator[tuple[str, Any]]:
    """Every command that an operator sees, with its name."""

    def make_nothing(settings: Settings) -> Any:
        raise AssertionError("no command runs")

    def walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        yield name, command
        if hasattr(command, "list_commands"):
            context = typer.Context(command)
            for child in command.list_commands(context):
                yield from walk(f"{name} {child}", command.get_command(context, child))

    for name, command in walk("ledger", get_command(build_cli(make_nothing, LedgerGroup))):
        if not command.hidden:
            yield name, command


COMMANDS = dict(all_commands())


def test_all_commands_are_there() -> None:
    assert {"ledger serve", "ledger keys roll", "ledger projections rebuild"} <= set(COMMANDS)


@pytest.mark.parametrize("name", [name for name in COMMANDS if hasattr(COMMANDS[name], "list_commands")])
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


@pytest.mark.parametrize(
    ("arguments", "unneeded"),
    [
        (("accounts", "list"), WEB | MIGRATIONS | {"projections", "prometheus_client", "pypdf"}),
        (("migrate",), WEB | {"projections", "prometheus_client", "pypdf"}),
        (("projections", "status"), WEB | MIGRATIONS | {"pypdf"}),
        (("projections", "rebuild", "--all"), WEB | MIGRATIONS | {"pypdf"}),
        (("audit", "keys"), WEB | MIGRATIONS | {"projections", "pyarrow", "pypdf"}),
        (("audit", "log"), WEB | MIGRATIONS | {"projections", "pyarrow", "pypdf"}),
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
