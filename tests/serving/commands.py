"""The commands of `ledger`, as the program has them: no test keeps a list of its own."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import typer
from typer.main import get_command

from ledger.__main__ import LedgerGroup
from ledger.cli.app import build_cli
from ledger.cli.groups import EXAMPLES_HEADING
from ledger.config import Settings

SHELL_WORDS = {"|", "||", "&&", ">", ">>", "<", ";"}


def make_root() -> Any:
    """The `ledger` command, to parse arguments with."""

    def make_nothing(settings: Settings) -> Any:
        raise AssertionError("no command runs")

    return get_command(build_cli(make_nothing, LedgerGroup))


def _walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    if is_group(command):
        context = typer.Context(command)
        for child in command.list_commands(context):
            yield from _walk(f"{name} {child}", command.get_command(context, child))


def is_group(command: Any) -> bool:
    return hasattr(command, "list_commands")


def list_examples(command: Any) -> list[str]:
    """The lines below "Examples:" at the end of a command's help."""
    heading, *lines = (command.epilog or "\b\n").removeprefix("\b\n").splitlines() or [""]
    return [line.strip() for line in lines] if heading == EXAMPLES_HEADING else []


def split_call(example: str) -> list[str]:
    """The arguments of `ledger` in a line for a shell."""
    words = shlex.split(example)
    called = words[words.index("ledger") + 1 :]
    end = next((number for number, word in enumerate(called) if word in SHELL_WORDS), len(called))
    return called[:end]


COMMANDS = {name: command for name, command in _walk("ledger", make_root()) if not command.hidden}
"""Every command and group that an operator sees, by name."""

LEAVES = {name: command for name, command in COMMANDS.items() if not is_group(command)}
"""Those that do something."""
