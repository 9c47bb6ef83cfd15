"""The filters of the log as options of commands."""

from __future__ import annotations

from typing import Annotated

import typer

from ledger.audit.search.filters import LogFilters

Actor = Annotated[str | None, typer.Option(help="The id of a key, or cli.")]
Request = Annotated[str | None, typer.Option(help="The id of a request (req_…).")]
IdempotencyKey = Annotated[str | None, typer.Option(help="The Idempotency-Key of a request.")]
Object = Annotated[str | None, typer.Option("--object", help="The id of the object changed.")]
Customer = Annotated[str | None, typer.Option(help="The customer, or what names it.")]
Charge = Annotated[str | None, typer.Option(help="The charge, or what names it.")]
PaymentIntent = Annotated[str | None, typer.Option(help="The payment intent, or what names it.")]
Event = Annotated[str | None, typer.Option(help="The id of a public Event (evt_… or evt_thin_…).")]
Types = Annotated[
    list[str] | None,
    typer.Option("--type", help="A type, or a pattern such as 'dispute.*'; repeat it for several."),
]
Since = Annotated[str | None, typer.Option(help="The first time: unix seconds or ISO 8601.")]
Until = Annotated[str | None, typer.Option(help="The last time.")]
After = Annotated[int | None, typer.Option(min=0, help="Only positions after this one.")]
Before = Annotated[int | None, typer.Option(min=0, help="Only positions before this one.")]


def make_filters(
    *,
    actor: str | None,
    request: str | None,
    idempotency_key: str | None,
    object_id: str | None,
    customer: str | None,
    charge: str | None,
    payment_intent: str | None,
    event: str | None,
    types: list[str] | None,
    since: str | None,
    until: str | None,
    after: int | None,
    before: int | None,
) -> LogFilters:
    """The filters that the options mean."""
    return LogFilters(
        actor=actor,
        request=request,
        idempotency_key=idempotency_key,
        object=object_id,
        customer=customer,
        charge=charge,
        payment_intent=payment_intent,
        event=event,
        types=types or (),
        time={name: text for name, text in (("gte", since), ("lte", until)) if text is not None},
        position={name: number for name, number in (("gt", after), ("lt", before)) if number is not None},
    )
