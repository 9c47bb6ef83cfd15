"""Every operation of the public API, in one table: method, path, parameters, permission, what runs."""

from __future__ import annotations

from functools import partial

from ledger.api.operations import Operation
from ledger.commands import charges, customers, disputes, sessions
from ledger.commands.sessions import Secrets
from ledger.domain.money import Terms
from ledger.reads import Reads
from ledger.wire import tables


def operations(reads: Reads, secrets: Secrets, terms: Terms) -> list[Operation]:
    """The operations, working with this process's reads and these terms."""
    customer = partial(Operation, resource="customer", expandable="customer")
    charge = partial(Operation, resource="charge", expandable="charge")
    dispute = partial(Operation, resource="dispute", expandable="dispute")
    event = partial(Operation, resource="event", expandable="event")
    return [
        customer(
            method="POST",
            path="/v1/customers",
            summary="Create a customer",
            table=tables.customers.CREATE,
            decide=customers.create,
        ),
        customer(
            method="GET",
            path="/v1/customers",
            summary="List customers, newest first",
            table=tables.customers.LIST,
            answer=reads.list_customers,
        ),
        customer(
            method="GET",
            path="/v1/customers/{customer}",
            summary="Retrieve a customer",
            table=tables.customers.RETRIEVE,
            answer=reads.retrieve_customer,
        ),
        customer(
            method="POST",
            path="/v1/customers/{customer}",
            summary="Update a customer",
            table=tables.customers.UPDATE,
            decide=customers.update,
        ),
        customer(
            method="DELETE",
            path="/v1/customers/{customer}",
            summary="Delete a customer",
            table=tables.customers.DELETE,
            decide=customers.delete,
        ),
        charge(
            method="POST",
            path="/v1/charges",
            summary="Create a charge",
            table=tables.charges.CREATE,
            decide=charges.create(terms),
        ),
        charge(
            method="GET",
            path="/v1/charges",
            summary="List charges, newest first",
            table=tables.charges.LIST,
            answer=reads.list_charges,
        ),
        charge(
            method="GET",
            path="/v1/charges/{charge}",
            summary="Retrieve a charge",
            table=tables.charges.RETRIEVE,
            answer=reads.retrieve_charge,
        ),
        charge(
            method="POST",
            path="/v1/charges/{charge}",
            summary="Update a charge",
            table=tables.charges.UPDATE,
            decide=charges.update,
        ),
        charge(
            method="POST",
            path="/v1/charges/{charge}/capture",
            summary="Capture an authorised charge",
            table=tables.charges.CAPTURE,
            decide=charges.capture(terms),
        ),
        Operation(
            method="POST",
            path="/v1/customer_sessions",
            summary="Create a customer session",
            table=tables.sessions.CREATE,
            resource="customer_session",
            expandable="customer_session",
            decide=sessions.create(secrets, terms),
        ),
        dispute(
            method="GET",
            path="/v1/disputes",
            summary="List disputes, newest first",
            table=tables.disputes.LIST,
            answer=reads.list_disputes,
        ),
        dispute(
            method="GET",
            path="/v1/disputes/{dispute}",
            summary="Retrieve a dispute",
            table=tables.disputes.RETRIEVE,
            answer=reads.retrieve_dispute,
        ),
        dispute(
            method="POST",
            path="/v1/disputes/{dispute}",
            summary="Stage or submit evidence, or update a dispute",
            table=tables.disputes.UPDATE,
            decide=disputes.update(terms),
        ),
        dispute(
            method="POST",
            path="/v1/disputes/{dispute}/close",
            summary="Close a dispute, which loses it",
            table=tables.disputes.CLOSE,
            decide=disputes.close,
        ),
        event(
            method="GET",
            path="/v1/events",
            summary="List events of the last 30 days, newest first",
            table=tables.events.LIST,
            answer=reads.list_events,
        ),
        event(
            method="GET",
            path="/v1/events/{event}",
            summary="Retrieve an event of the last 30 days",
            table=tables.events.RETRIEVE,
            answer=reads.retrieve_event,
        ),
    ]
