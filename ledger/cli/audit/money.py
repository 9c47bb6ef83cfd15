"""`ledger audit trial-balance` and `ledger audit journal`: the books at any moment, as tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from ledger.audit.auditor import Auditor
from ledger.audit.money.bounds import Bounds
from ledger.audit.money.journal import JournalQuery, list_postings
from ledger.audit.money.trial_balance import TrialBalances
from ledger.cli.audit.shell import AccountOption, LiveOption, run
from ledger.cli.groups import JsonOption
from ledger.domain.money import get_decimal_places
from ledger.queries.context import QueryContext

AtOption = Annotated[str | None, typer.Option("--at", help="A unix time, an ISO 8601 time or position:N.")]
CurrencyOption = Annotated[str | None, typer.Option("--currency", help="Only this currency.")]
_AMOUNT_HEADINGS = {"debits", "credits", "balance", "debit", "credit", "position"}
"""The columns that are aligned to the right."""


def show_trial_balance(
    at: AtOption = None,
    currency: CurrencyOption = None,
    account: AccountOption = None,
    live: LiveOption = False,
    as_json: JsonOption = False,
) -> None:
    """Print debits, credits and balance of each ledger account.

    As of now, or of any moment before. The totals of each currency balance."""

    async def compute(queries: QueryContext, auditor: Auditor) -> dict[str, Any]:
        return (await TrialBalances(queries).compute(auditor, at, currency)).to_json()

    document = run(compute, account=account, livemode=live)
    if as_json:
        print(json.dumps(document))
        return
    header = ("currency", "ledger account", "debits", "credits", "balance")
    rows = [
        (
            row["currency"],
            row.get("ledger_account", "total"),
            *(format_decimal(row[name], row["currency"]) for name in ("debits", "credits", "balance")),
        )
        for total in document["totals"]
        for row in (*(each for each in document["accounts"] if each["currency"] == total["currency"]), total)
    ]
    print_aligned(header, rows)
    _print_notes(document)


def show_journal(
    at: AtOption = None,
    begin: Annotated[str | None, typer.Option("--from", help="The first moment.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="The last moment.")] = None,
    ledger_account: Annotated[
        str | None, typer.Option(help="One of network, merchant_balance, processing_fees and dispute_fees.")
    ] = None,
    currency: CurrencyOption = None,
    object_id: Annotated[
        str | None, typer.Option("--object", help="A charge with all its money, a refund, or a dispute.")
    ] = None,
    transaction: Annotated[str | None, typer.Option(help="A balance transaction.")] = None,
    limit: Annotated[int, typer.Option(help="Postings of a page, 1 to 100.")] = 100,
    starting_after: Annotated[
        int | None, typer.Option(help="The position at which the page before ended.")
    ] = None,
    order: Annotated[str, typer.Option(help="Either asc, oldest first, or desc, newest first.")] = "desc",
    account: AccountOption = None,
    live: LiveOption = False,
    as_json: JsonOption = False,
) -> None:
    """Print postings with the event that made each."""
    query = JournalQuery(
        Bounds(at, begin, end),
        ledger_account=ledger_account,
        currency=currency,
        object=object_id,
        transaction=transaction,
        limit=limit,
        starting_after=starting_after,
        order=order,
    )
    document = run(
        lambda queries, auditor: list_postings(queries, auditor, query), account=account, livemode=live
    )
    if as_json:
        print(json.dumps(document))
        return
    header = ("position", "time", "type", "source", "ledger account", "debit", "credit", "currency", "by")
    rows = [
        (
            row["position"],
            row["time"],
            row["type"],
            row["source"],
            row["ledger_account"],
            *(
                format_decimal(row["amount"], row["currency"]) if row["side"] == side else ""
                for side in ("debit", "credit")
            ),
            row["currency"],
            row["request_id"] or (row["causation"] or {}).get("type", ""),
        )
        for row in document["data"]
    ]
    print_aligned(header, rows)
    _print_notes(document)
    if document["has_more"]:
        print(f"There is more: --starting-after {document['next_position']}")


def format_decimal(amount: int, currency: str) -> str:
    """An amount in minor units with the decimals of its currency: 1,234.50 of usd."""
    places = get_decimal_places(currency)
    whole, part = divmod(abs(amount), 10**places)
    digits = f"{whole:,}" + (f".{part:0{places}d}" if places else "")
    return f"-{digits}" if amount < 0 else digits


def print_aligned(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table as text; amounts are aligned to the right."""
    texts = [list(header), *([str(value) for value in row] for row in rows)]
    widths = [max(len(row[number]) for row in texts) for number in range(len(header))]
    for row in texts:
        cells = [
            text.rjust(width) if name in _AMOUNT_HEADINGS else text.ljust(width)
            for text, width, name in zip(row, widths, header, strict=True)
        ]
        print("  ".join(cells).rstrip())


def _print_notes(document: dict[str, Any]) -> None:
    """Print the moment of the answer, and what it lacks."""
    print(f"As of position {document['as_of']['position']}, {document['as_of']['time']}")
    for each in document["unreadable"]:
        print(f"Left out: position {each['position']} of {each['object']} cannot be read ({each['reason']})")
