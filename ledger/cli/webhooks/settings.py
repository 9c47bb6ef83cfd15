"""The signing secret of a webhook endpoint replaced, and the settings that Stripe's endpoints do not have.

They append to the log like the routes of the internal API, of any account, beside a running service or not.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ledger.cli.groups import JsonOption, format_examples, print_json
from ledger.cli.shell import CLI_ACTOR, Deployment, format_time, get_shell_user, run_change
from ledger.clock import Clock
from ledger.errors import InvalidParameter, InvalidWebhookState, SettingError
from ledger.postgres.connections import Conn

if TYPE_CHECKING:
    from ledger.call import Call
    from ledger.commands.execution import Decide

DECIDE_ATTEMPTS_MAX = 3
OVERLAP_SECONDS_DEFAULT = 86_400
_ENDPOINT = "we_0352CZ3z1jWpJM7B8upbma"
# The log has only `cli` and the request. No worker logs this row: it logs what it reads from the log.
_RECORD = """
INSERT INTO ledger.operations (who, action, account, logged, details)
VALUES (%(who)s, %(action)s, %(account)s, true, jsonb_build_object(
    'endpoint', %(endpoint)s::text, 'mode', %(mode)s::text, 'request', %(request)s::text))
"""

EndpointArgument = Annotated[str, typer.Argument(help="The id of a webhook endpoint (we_… or ed_…).")]


def add_settings_commands(group: typer.Typer) -> None:
    """Add `configure` and `rotate-secret`."""
    _add_configure_command(group)
    _add_rotate_command(group)


def _add_configure_command(group: typer.Typer) -> None:
    @group.command(
        "configure",
        epilog=format_examples(
            f"ledger webhooks configure {_ENDPOINT}",
            f"ledger webhooks configure {_ENDPOINT} --ordered",
            f"ledger webhooks configure {_ENDPOINT} --standard-webhooks --json",
        ),
    )
    def configure(
        endpoint: EndpointArgument,
        ordered: Annotated[
            bool | None,
            typer.Option(
                "--ordered/--not-ordered", help="Send the Events of one object one after another, in order."
            ),
        ] = None,
        standard_webhooks: Annotated[
            bool | None,
            typer.Option(
                "--standard-webhooks/--no-standard-webhooks",
                help="Send the headers of Standard Webhooks beside Stripe-Signature.",
            ),
        ] = None,
        as_json: JsonOption = False,
    ) -> None:
        """Change how Events are sent to an endpoint, or show it.

        The other settings stay as they are. Order holds for Events recorded from now on."""
        from ledger.commands import webhook_endpoints

        given = {"ordered": ordered, "standard_webhooks": standard_webhooks}
        options = {name: value for name, value in given.items() if value is not None}
        settings = _change("webhook_endpoint_configured", webhook_endpoints.configure, endpoint, options)
        if as_json:
            print_json(settings)
        else:
            _print_settings(settings)


def _add_rotate_command(group: typer.Typer) -> None:
    @group.command(
        "rotate-secret",
        epilog=format_examples(
            f"ledger webhooks rotate-secret {_ENDPOINT}",
            f"ledger webhooks rotate-secret {_ENDPOINT} --overlap 0",
        ),
    )
    def rotate_secret(
        endpoint: EndpointArgument,
        overlap: Annotated[
            int, typer.Option(help="Seconds for which the previous secret signs, too; 0: it has leaked.")
        ] = OVERLAP_SECONDS_DEFAULT,
        as_json: JsonOption = False,
    ) -> None:
        """Replace the signing secret of an endpoint.

        Prints the new secret, which cannot be shown again. During the overlap both sign, so receivers can
        change over; until it ends, the secret can be replaced again with --overlap 0 only."""
        from ledger.commands import webhook_endpoints

        try:
            settings = _change(
                "webhook_endpoint_secret_rotated",
                webhook_endpoints.rotate_secret,
                endpoint,
                {"overlap_seconds": overlap},
            )
        except InvalidParameter as error:
            raise SettingError(f"--overlap: {error.message.partition(': ')[2].rstrip('.')}") from None
        except InvalidWebhookState as error:
            raise SettingError(error.message.replace("an overlap_seconds of 0", "--overlap 0")) from None
        if as_json:
            print_json(settings)
            return
        print(settings["secret"])
        valid_until = settings["previous_secret_valid_until"]
        ends = "signs no more" if valid_until is None else f"signs, too, until {format_time(valid_until)}"
        print(f"Shown this once. The previous secret {ends}.", file=sys.stderr)


def _change(action: str, decide: Decide, endpoint: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Run a command on the endpoint, of whichever account, record who did it, and return its answer. Raises
    RequestError."""

    async def change(conn: Conn, clock: Clock, deployment: Deployment) -> dict[str, Any]:
        from ledger.call import Call, Cause
        from ledger.errors import UnknownObject
        from ledger.ids import new_id
        from ledger.store.codec import Codec
        from ledger.webhooks.history.owners import read_endpoint

        state = await read_endpoint(conn, Codec(deployment.service_keys), endpoint)
        if state is None:
            raise UnknownObject("webhook endpoint", endpoint)
        cause = Cause(state.account, state.livemode, CLI_ACTOR, new_id("req", clock.now()), None)
        call = Call(cause, endpoint, parameters)
        async with conn.transaction():  # a refused change leaves no record
            if parameters:
                details = {
                    "who": get_shell_user(),
                    "action": action,
                    "account": cause.account,
                    "endpoint": endpoint,
                    "mode": "live" if cause.livemode else "test",
                    "request": cause.request_id,
                }
                await conn.execute(_RECORD, details)
            return await _decide_and_append(deployment, clock, decide, call)

    return run_change(change)


async def _decide_and_append(
    deployment: Deployment, clock: Clock, decide: Decide, call: Call
) -> dict[str, Any]:
    from ledger.api.composition import build_execution, build_queries
    from ledger.errors import ConcurrencyConflict
    from ledger.postgres.connections import Pool
    from ledger.store.journal import VersionConflict
    from ledger.store.store import Store

    store = Store(deployment.dsn, deployment.service_keys, deployment.settings, clock)
    pool = Pool(deployment.dsn)
    queries = build_queries(store, pool, deployment.settings)
    execution = build_execution(store, queries, deployment.settings)
    await store.start()
    try:
        for _ in range(DECIDE_ATTEMPTS_MAX):
            group = execution.begin_group([], exact=True)
            decision = await execution.decide(call, group, decide, int(group.decided_at))
            if decision.refusal is not None:
                raise decision.refusal
            group.add(decision.changes)
            try:
                await execution.append(call.cause, group)
            except VersionConflict:
                continue
            return dict(decision.answer)
        raise ConcurrencyConflict
    finally:
        await store.close()
        await queries.pages.close()


def _print_settings(settings: dict[str, Any]) -> None:
    print(f"{settings['id']}: {settings['status']}")
    print(f"  Payload: {settings['event_payload']} events")
    print(f"  Events of one object in order: {'yes' if settings['ordered'] else 'no'}")
    print(f"  Headers of Standard Webhooks: {'yes' if settings['standard_webhooks'] else 'no'}")
    print(f"  Signing secret: number {settings['secret_version']}")
    if settings["previous_secret_valid_until"] is not None:
        print(
            f"  The one before it signs, too, until {format_time(settings['previous_secret_valid_until'])}."
        )
