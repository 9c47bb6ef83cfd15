"""Parses command lines by the commands themselves, without running them.

Standard input has a JSON list of objects with `words` and `whole`, standard output a list of complaints, null
for a line without fault. A process of its own, as the commands are one."""

from __future__ import annotations

import json
import sys
from functools import cache
from typing import Any

from typer.main import get_command

from ledger import __main__ as program
from ledger.cli.app import build_cli


@cache
def build_command() -> Any:
    """The whole `ledger` command."""
    return get_command(build_cli(lambda settings: None, program.LedgerGroup))  # type: ignore[arg-type, return-value]


def find_command(words: list[str]) -> tuple[Any, list[str], str | None]:
    """The command that the words name, what follows its name, and a complaint if there is no such command."""
    command, rest = build_command(), list(words)
    while hasattr(command, "get_command") and rest and not rest[0].startswith("-"):
        try:
            # Some groups take another word for the argument of the command that they run without a name.
            context = command.make_context("ledger", list(rest))
            _, found, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        except Exception as error:
            if not hasattr(error, "format_message"):
                raise
            return command, rest, f"there is no command {rest[0]!r}"
        command = found
    return command, rest, None


def find_fault(words: list[str], *, whole: bool) -> str | None:
    """What is wrong with a command line; one that is not whole only names a command and options."""
    command, rest, fault = find_command(words)
    if fault is not None:
        return fault
    known = {name for parameter in command.params for name in parameter.opts + parameter.secondary_opts}
    known |= {"--help", "-h"}
    passes_on = command.context_settings.get("ignore_unknown_options", False)  # to another program
    for word in rest:
        if word.startswith("-") and len(word) > 1 and word.partition("=")[0] not in known:
            return None if passes_on else f"there is no option {word}"
    if not whole or set(rest) & {"--help", "-h"}:
        return None
    if hasattr(command, "get_command"):
        return "names a group, not a command"
    try:
        command.make_context("ledger", rest)
    except Exception as error:  # click's, of which typer has a copy of its own
        if not hasattr(error, "format_message"):
            raise
        return str(error.format_message())
    return None


if __name__ == "__main__":
    lines = json.load(sys.stdin)
    print(json.dumps([find_fault(each["words"], whole=each["whole"]) for each in lines]))
