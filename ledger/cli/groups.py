"""What all commands of `ledger` share: the form of --help, --json, --yes, the nearest name of a mistyped one.

A command that asks does so before it does what cannot be undone, and only on a terminal: a script passes
--yes, and without it is refused.
"""

from __future__ import annotations

import json
import sys
from difflib import get_close_matches
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ledger.errors import SettingError

EXIT_USAGE = 2
EXAMPLES_HEADING = "Examples:"

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
ReasonOption = Annotated[str, typer.Option(help="Why; it is kept on record.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask whether to go on.")]


class CommandGroup(TyperGroup):
    """A group of commands, which names the nearest one for a name that it does not have. Its help, when it is
    called without a command, goes to standard error. Arguments are in capitals, as the texts name them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Split off the command and its arguments."""
        if not args and not ctx.resilient_parsing:
            print(ctx.get_help(), file=sys.stderr)
            raise typer.Exit(EXIT_USAGE)
        return super().parse_args(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name, or None."""
        command = super().get_command(ctx, cmd_name)
        for parameter in () if command is None else command.params:
            if parameter.param_type_name == "argument" and parameter.metavar is None:
                parameter.metavar = parameter.name.removesuffix("_id").upper()
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the arguments call."""
        name = args[0]
        if not ctx.resilient_parsing and not name.startswith("-") and name not in self.list_commands(ctx):
            visible = [each for each in self.list_commands(ctx) if each not in self.hidden_commands]
            nearest = get_close_matches(name, visible, n=1)
            hint = f" Did you mean: {ctx.command_path} {nearest[0]}?" if nearest else ""
            ctx.fail(f"No such command: {name}.{hint}")
        return super().resolve_command(ctx, args)

    @property
    def hidden_commands(self) -> set[str]:
        """The commands that nobody is to call by hand."""
        return {name for name, command in self.commands.items() if command.hidden}


def build_group(text: str, *examples: str, group_class: type[CommandGroup] = CommandGroup) -> typer.Typer:
    """A group with this help and these examples, for commands to be added."""
    return typer.Typer(
        cls=group_class,
        help=text,
        epilog=format_examples(*examples),
        add_completion=False,
        rich_markup_mode=None,
    )


def format_examples(*lines: str) -> str:
    """The end of a command's help: lines that can be copied to a shell. Each is a call of `ledger`, perhaps
    after or before what a shell adds."""
    return "\n".join(["\b", EXAMPLES_HEADING, *(f"  {line}" for line in lines)])


def print_json(document: Any) -> None:
    """Print the one JSON document that is a command's answer."""
    print(json.dumps(document, indent=2))


def require_consent(consequence: str, *, yes: bool) -> None:
    """Say what a command is about to do for good, and ask whether to go on; `yes`: that was answered before.

    Raises SettingError when the answer is no, and when there is no terminal to ask on.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise SettingError(
            f"{' '.join(consequence.splitlines())} To do so, pass --yes: there is no terminal to ask on"
        )
    print(consequence, file=sys.stderr)
    if not typer.confirm("Go on?", err=True):
        raise SettingError("nothing was changed")


def explain_usage_error(error: typer.TyperException) -> str:
    """One line for arguments that a command does not take: what is wrong, the nearest option, and where to
    look."""
    possibilities = getattr(error, "possibilities", None)
    text = error.message if possibilities else error.format_message()
    text = " ".join(text.split()).rstrip(".")
    if possibilities:
        text += f". Did you mean: {possibilities[0]}?"
    context = getattr(error, "ctx", None)
    path = "ledger" if context is None else context.command_path
    return f"{text}{'' if text.endswith('?') else '.'} See: {path} --help"
