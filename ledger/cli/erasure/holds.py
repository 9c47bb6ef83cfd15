"""`ledger hold`: legal holds, which keep objects from being erased."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ledger.cli.groups import JsonOption, build_group, format_examples, print_json
from ledger.cli.shell import format_time, get_shell_user, print_table
from ledger.errors import SettingError

if TYPE_CHECKING:
    from ledger.cli.erasure.requests import Shell
    from ledger.domain.legal_hold import LegalHold

_CUSTOMER = "cus_0352CZ3z1jWpJM7B8upbma"
_NEWEST = """
SELECT h.id FROM projections.live l JOIN projections.legal_holds h ON h.generation = l.generation
WHERE l.projection = 'legal_holds' AND (h.active OR %(all)s)
ORDER BY h.position DESC LIMIT %(limit)s
"""

ObjectArgument = Annotated[
    str, typer.Argument(metavar="OBJECT", help="A customer, or an object that belongs to none.")
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it is stored encrypted.")]


def build_hold_group() -> typer.Typer:
    """The group `ledger hold …`."""
    group = build_group(
        "Place and release legal holds: what is held is not erased.",
        f"ledger hold place {_CUSTOMER} --reason 'case 4711'",
        "ledger hold list",
    )
    _add_place_command(group)
    _add_release_command(group)
    _add_list_command(group)
    return group


def _add_place_command(group: typer.Typer) -> None:
    @group.command(
        "place", epilog=format_examples(f"ledger hold place {_CUSTOMER} --reason 'case 4711' --json")
    )
    def place(object_id: ObjectArgument, reason: ReasonOption, as_json: JsonOption = False) -> None:
        """Place a legal hold: no redaction job can run on the object.

        Not on one that belongs to a customer: the hold of the customer covers it."""
        from ledger.cli.erasure import requests
        from ledger.commands import legal_holds

        requests.check_reason(reason, "--reason")

        async def run(shell: Shell) -> dict[str, Any]:
            state = await shell.store.streams.read(object_id)
            if state is None:
                raise SettingError(f"there is no object {object_id}. {legal_holds.HOLDABLE}")
            return await shell.run(
                state, legal_holds.place, object=object_id, reason=reason, by=get_shell_user()
            )

        placed = requests.run_in_shell(run)
        print_json(placed) if as_json else print(f"{object_id} is under a legal hold: {placed['id']}")


def _add_release_command(group: typer.Typer) -> None:
    @group.command(
        "release",
        epilog=format_examples(f"ledger hold release {_CUSTOMER} --reason 'case 4711 is closed'"),
    )
    def release(object_id: ObjectArgument, reason: ReasonOption, as_json: JsonOption = False) -> None:
        """Release a legal hold: the object may be erased again."""
        from ledger.cli.erasure import requests
        from ledger.commands import legal_holds
        from ledger.domain.legal_hold import LegalHold, find_hold_id

        requests.check_reason(reason, "--reason")

        async def run(shell: Shell) -> dict[str, Any]:
            held_id = object_id.removeprefix("hold_")
            hold = await shell.store.streams.read(find_hold_id(held_id))
            if not isinstance(hold, LegalHold):
                raise SettingError(f"there is no legal hold of {held_id}: see `ledger hold list`")
            return await shell.run(hold, legal_holds.release, hold.id, reason=reason, by=get_shell_user())

        released = requests.run_in_shell(run)
        print_json(released) if as_json else print(f"{object_id} may be erased again.")


def _add_list_command(group: typer.Typer) -> None:
    @group.command("list", epilog=format_examples("ledger hold list", "ledger hold list --all --json"))
    def list_holds(
        everything: Annotated[bool, typer.Option("--all", help="Released ones, too.")] = False,
        limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, at most.")] = 100,
        as_json: JsonOption = False,
    ) -> None:
        """List legal holds of all accounts, newest first."""
        from ledger.cli.erasure import requests
        from ledger.domain.legal_hold import LegalHold
        from ledger.postgres.connections import fetch_all
        from ledger.wire.redaction_jobs import render_legal_hold

        async def read(shell: Shell) -> list[LegalHold]:
            async with shell.queries.pool.connection() as conn:
                rows = await fetch_all(conn, _NEWEST, {"all": everything, "limit": limit})
            states = [await shell.store.streams.read(row[0]) for row in rows]
            holds = [state for state in states if isinstance(state, LegalHold)]
            return [hold for hold in holds if everything or hold.active]  # a row may be behind the log

        holds = requests.run_in_shell(read)
        if as_json:
            print_json({"data": [render_legal_hold(hold) | {"account": hold.account} for hold in holds]})
            return
        rows = [
            (
                hold.object_id, "held" if hold.active else "released", hold.account, hold.placed_by,
                format_time(hold.placed_at), hold.reason or "", hold.released_by or "",
            )
            for hold in holds
        ]  # fmt: skip
        print_table(("object", "state", "account", "placed by", "placed", "reason", "released by"), rows)
