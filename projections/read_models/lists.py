"""The list views: customers, charges, disputes, refunds, files and their links, a row an object.

`state` is the folded aggregate as JSON, as of the last recorded event applied; a list is rendered from it
by the functions that render one object. The columns beside it are what lists filter and order by. A
deleted customer keeps its row: a cursor may name it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger.domain import charge, customer, dispute, file, file_link, refund, webhook_endpoint
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.domain.dispute import Dispute
from ledger.domain.file import File
from ledger.domain.file_link import FileLink
from ledger.domain.refund import Refund
from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.store.codec import State
from ledger.store.log import Recorded
from projections.projection import Column, Projection, Row

_OBJECT_COLUMNS = (
    Column("id", "text"),
    Column("account", "text"),
    Column("livemode", "boolean"),
    Column("created", "bigint"),
)
_STATE_COLUMN = Column("state", "json")


def _apply_customer(before: State | None, recorded: Recorded, after: State) -> Sequence[Row]:
    assert isinstance(after, Customer)
    return [(after.id, after.account, after.livemode, after.created, after.deleted, after.email, after)]


def _apply_charge(before: State | None, recorded: Recorded, after: State) -> Sequence[Row]:
    assert isinstance(after, Charge)
    return [
        (
            after.id,
            after.account,
            after.livemode,
            after.created,
            after.customer,
            after.payment_intent,
            after.transfer_group,
            after,
        )
    ]


def _apply_dispute(before: State | None, recorded: Recorded, after: State) -> Sequence[Row]:
    assert isinstance(after, Dispute)
    return [
        (after.id, after.account, after.livemode, after.created, after.charge, after.payment_intent, after)
    ]


def _apply_refund(before: State | None, recorded: Recorded, after: State) -> Sequence[Row]:
    assert isinstance(after, Refund)
    return [
        (after.id, after.account, after.livemode, after.created, after.charge, after.payment_intent, after)
    ]


def _apply_file(before: State | None, recorded: Recorded, after: State) -> Sequence[Row]:
    assert isinstance(after, File)
    return [(after.id, after.account, after.livemode, after.created, after.purpose, after)]


def _apply_file_link(before: State | None, recorded: Recorded, after: State) -> Sequence[Row]:
    assert isinstance(after, FileLink)
    return [(after.id, after.account, after.livemode, after.created, after.file, after.expires_at, after)]


def _apply_webhook_endpoint(before: State | None, recorded: Recorded, after: State) -> Sequence[Row]:
    assert isinstance(after, WebhookEndpoint)
    return [(after.id, after.account, after.livemode, after.created, after.deleted, after)]


CUSTOMERS = Projection(
    name="customers",
    aggregates=(customer,),
    columns=(*_OBJECT_COLUMNS, Column("deleted", "boolean"), Column("email", "text"), _STATE_COLUMN),
    apply=_apply_customer,
    mutable_columns=("deleted", "email", "state"),
)
CHARGES = Projection(
    name="charges",
    aggregates=(charge,),
    columns=(
        *_OBJECT_COLUMNS,
        Column("customer", "text"),
        Column("payment_intent", "text"),
        Column("transfer_group", "text"),
        _STATE_COLUMN,
    ),
    apply=_apply_charge,
    mutable_columns=("customer", "payment_intent", "transfer_group", "state"),
)
DISPUTES = Projection(
    name="disputes",
    aggregates=(dispute,),
    columns=(*_OBJECT_COLUMNS, Column("charge", "text"), Column("payment_intent", "text"), _STATE_COLUMN),
    apply=_apply_dispute,
    mutable_columns=("payment_intent", "state"),
)
REFUNDS = Projection(
    name="refunds",
    aggregates=(refund,),
    columns=(*_OBJECT_COLUMNS, Column("charge", "text"), Column("payment_intent", "text"), _STATE_COLUMN),
    apply=_apply_refund,
    mutable_columns=("state",),
)
FILES = Projection(
    name="files",
    aggregates=(file,),
    columns=(*_OBJECT_COLUMNS, Column("purpose", "text"), _STATE_COLUMN),
    apply=_apply_file,
    mutable_columns=("state",),
)
FILE_LINKS = Projection(
    name="file_links",
    aggregates=(file_link,),
    columns=(*_OBJECT_COLUMNS, Column("file", "text"), Column("expires_at", "bigint"), _STATE_COLUMN),
    apply=_apply_file_link,
    mutable_columns=("expires_at", "state"),
)
WEBHOOK_ENDPOINTS = Projection(
    name="webhook_endpoints",
    aggregates=(webhook_endpoint,),
    columns=(*_OBJECT_COLUMNS, Column("deleted", "boolean"), _STATE_COLUMN),
    apply=_apply_webhook_endpoint,
    mutable_columns=("deleted", "state"),
)
