"""The group `ledger alerts receivers …`: where operators are told of alerts."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from ledger.cli.groups import JsonOption, build_group, format_examples, print_json
from ledger.cli.shell import (
    Deployment,
    format_time,
    get_shell_user,
    print_table,
    run_change,
    run_with_connection,
    run_with_deployment,
)
from ledger.clock import Clock
from ledger.errors import InvalidParameter, SettingError
from ledger.postgres.connections import Conn

_RECEIVER = "alrc_0352CZ5Gldsp6qNF5qNF1x"

ReceiverArgument = Annotated[str, typer.Argument(help="The id of a receiver (alrc_…).")]


def build_receivers_group() -> typer.Typer:
    """The group with all its commands."""
    group = build_group(
        "Say where alerts are sent, as signed webhooks.",
        "ledger alerts receivers list",
        "ledger alerts receivers add https://alerts.example.com/hook --description pager",
        f"ledger alerts receivers test {_RECEIVER}",
    )
    _add_add_command(group)
    _add_list_command(group)
    _add_remove_command(group)
    _add_test_command(group)
    return group


def _add_add_command(group: typer.Typer) -> None:
    @group.command(
        "add",
        epilog=format_examples(
            "ledger alerts receivers add https://alerts.example.com/hook",
            "ledger alerts receivers add http://10.0.0.7:9000/ledger --description pager --json",
        ),
    )
    def add(
        url: Annotated[str, typer.Argument(help="Where to POST; it is stored encrypted, and never shown.")],
        description: Annotated[str, typer.Option(help="For people.")] = "",
        as_json: JsonOption = False,
    ) -> None:
        """Send every later event of an alert to a URL.

        Prints the secret that signs what is sent, which cannot be shown again."""
        from ledger.alerts.receivers import DESCRIPTION_LENGTH_MAX, ReceiverKeys, add_receiver
        from ledger.alerts.records import Actor

        if len(description) > DESCRIPTION_LENGTH_MAX:
            raise SettingError(f"--description: at most {DESCRIPTION_LENGTH_MAX} characters")

        async def change(conn: Conn, _: Clock, deployment: Deployment) -> dict[str, Any]:
            keys = ReceiverKeys(deployment.service_keys)
            return await add_receiver(conn, keys, url, description, Actor(get_shell_user(), "*"))

        try:
            added = run_change(change)
        except InvalidParameter as error:
            raise SettingError(f"URL: {error.message.removeprefix('Invalid URL: ')}") from None
        if as_json:
            print_json(added)
            return
        print(f"{added['id']}\n{added['secret']}")
        print("Its id and its secret, which is shown this once.", file=sys.stderr)


def _add_list_command(group: typer.Typer) -> None:
    @group.command(
        "list",
        epilog=format_examples("ledger alerts receivers list", "ledger alerts receivers list --json"),
    )
    def list_command(as_json: JsonOption = False) -> None:
        """List where alerts are sent, and how the last attempts went."""
        from ledger.alerts.receivers import list_receivers

        found = run_with_connection(lambda conn, _: list_receivers(conn))
        if as_json:
            print_json({"data": found, "has_more": False})
            return
        print_table(
            ["id", "host", "description", "pending", "last attempt", "answer"],
            [
                (each["id"], each["host"], each["description"], each["pending"], *_describe_attempt(each))
                for each in found
            ],
        )


def _add_remove_command(group: typer.Typer) -> None:
    @group.command(
        "remove",
        epilog=format_examples(f"ledger alerts receivers remove {_RECEIVER} --reason 'it has moved'"),
    )
    def remove(
        receiver: ReceiverArgument,
        reason: Annotated[str, typer.Option(help="Why; it is kept on record.")] = "",
        as_json: JsonOption = False,
    ) -> None:
        """Send nothing more to a receiver; what is pending is dropped."""
        from ledger.alerts.receivers import remove_receiver
        from ledger.alerts.records import REASON_LENGTH_MAX, Actor

        if len(reason) > REASON_LENGTH_MAX:
            raise SettingError(f"--reason: at most {REASON_LENGTH_MAX} characters")

        async def change(conn: Conn, _: Clock, __: Deployment) -> dict[str, Any]:
            return await remove_receiver(conn, receiver, Actor(get_shell_user(), "*", reason))

        removed = run_change(change)
        if as_json:
            print_json(removed)
        else:
            print(f"{removed['id']} is removed.")


def _add_test_command(group: typer.Typer) -> None:
    @group.command("test", epilog=format_examples(f"ledger alerts receivers test {_RECEIVER}"))
    def test(receiver: ReceiverArgument, as_json: JsonOption = False) -> None:
        """Send a receiver one signed `alert.test` from this shell."""
        from ledger.alerts.notices import begin_test, run_test
        from ledger.alerts.receivers import ReceiverKeys
        from ledger.alerts.records import Actor
        from ledger.alerts.service import make_client

        async def run(conn: Conn, _: Clock, deployment: Deployment) -> dict[str, Any]:
            keys = ReceiverKeys(deployment.service_keys)
            url = await begin_test(conn, keys, receiver, Actor(get_shell_user(), "*"))
            client = make_client(deployment.settings)
            try:
                return await run_test(client, keys, receiver, url)
            finally:
                await client.close()

        result = run_with_deployment(run)
        if as_json:
            print_json(result)
            return
        answer = result["error"] or f"status {result['status']}"
        print(f"{'Delivered' if result['delivered'] else 'Not delivered'}: {answer}.")
        if not result["delivered"]:
            raise typer.Exit(1)


def _describe_attempt(receiver: dict[str, Any]) -> tuple[str, str]:
    last = receiver["last_attempt"]
    return ("never", "") if last is None else (format_time(last["at"]), str(last["error"] or last["status"]))
