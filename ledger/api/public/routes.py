"""Every operation of the public API, in one table: method, path, parameters, permission, what runs."""

from __future__ import annotations

from functools import partial

from ledger.api.public.file_urls import FileUrls
from ledger.api.public.operations import Operation
from ledger.commands import charges, customer_sessions, customers, disputes, refunds
from ledger.commands.customer_sessions import SessionSecrets
from ledger.domain.money import Terms
from ledger.queries.balance_transactions import BalanceTransactionQueries
from ledger.queries.payments import PaymentQueries
from ledger.wire import tables


def public_operations(
    reads: PaymentQueries,
    balances: BalanceTransactionQueries,
    secrets: SessionSecrets,
    file_urls: FileUrls,
    terms: Terms,
) -> list[Operation]:
    """The operations, working with this process's reads and these terms."""
    customer = partial(Operation, resource="customer", expandable="customer")
    charge = partial(Operation, resource="charge", expandable="charge")
    dispute = partial(Operation, resource="dispute", expandable="dispute")
    refund = partial(Operation, resource="charge", expandable="refund")
    transaction = partial(Operation, resource="balance_transaction", expandable="balance_transaction")
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
            read=reads.list_customers,
        ),
        customer(
            method="GET",
            path="/v1/customers/{customer}",
            summary="Retrieve a customer",
            table=tables.customers.RETRIEVE,
            read=reads.retrieve_customer,
            open_to="ek",
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
        Operation(
            method="GET",
            path="/v1/customers/{customer}/payment_methods",
            summary="List a customer's payment methods",
            table=tables.customers.PAYMENT_METHODS,
            resource="customer",
            expandable="payment_method",
            read=reads.list_payment_methods,
            open_to="ek",
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
            read=reads.list_charges,
        ),
        charge(
            method="GET",
            path="/v1/charges/{charge}",
            summary="Retrieve a charge",
            table=tables.charges.RETRIEVE,
            read=reads.retrieve_charge,
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
            table=tables.customer_sessions.CREATE,
            resource="customer_session",
            expandable="customer_session",
            decide=customer_sessions.create(secrets, terms),
        ),
        Operation(
            method="GET",
            path="/v1/elements/sessions",
            summary="Exchange a customer session's client secret, with a publishable key",
            table=tables.elements.SESSION,
            resource="customer_session",
            expandable="customer_session",
            decide=customer_sessions.exchange(secrets),
            open_to="pk",
        ),
        dispute(
            method="GET",
            path="/v1/disputes",
            summary="List disputes, newest first",
            table=tables.disputes.LIST,
            read=file_urls.add_urls_to_query(reads.list_disputes),
        ),
        dispute(
            method="GET",
            path="/v1/disputes/{dispute}",
            summary="Retrieve a dispute",
            table=tables.disputes.RETRIEVE,
            read=file_urls.add_urls_to_query(reads.retrieve_dispute),
        ),
        dispute(
            method="POST",
            path="/v1/disputes/{dispute}",
            summary="Stage or submit evidence, or update a dispute",
            table=tables.disputes.UPDATE,
            decide=file_urls.add_urls_to_command(disputes.update(terms)),
        ),
        dispute(
            method="POST",
            path="/v1/disputes/{dispute}/close",
            summary="Close a dispute, which loses it",
            table=tables.disputes.CLOSE,
            decide=file_urls.add_urls_to_command(disputes.close),
        ),
        dispute(
            method="GET",
            path="/v1/charges/{charge}/dispute",
            summary="Retrieve the newest dispute of a charge (legacy)",
            table=tables.disputes.RETRIEVE,
            read=file_urls.add_urls_to_query(reads.retrieve_dispute_of_charge),
        ),
        dispute(
            method="POST",
            path="/v1/charges/{charge}/dispute",
            summary="Update the newest dispute of a charge (legacy)",
            table=tables.disputes.UPDATE,
            decide=file_urls.add_urls_to_command(disputes.on_newest_dispute(disputes.update(terms))),
        ),
        dispute(
            method="POST",
            path="/v1/charges/{charge}/dispute/close",
            summary="Close the newest dispute of a charge, which loses it (legacy)",
            table=tables.disputes.CLOSE,
            decide=file_urls.add_urls_to_command(disputes.on_newest_dispute(disputes.close)),
        ),
        refund(
            method="POST",
            path="/v1/refunds",
            summary="Refund a charge, in part or all that is left",
            table=tables.refunds.CREATE,
            decide=refunds.create(reads.find_charge_id),
        ),
        refund(
            method="GET",
            path="/v1/refunds",
            summary="List refunds, newest first",
            table=tables.refunds.LIST,
            read=reads.list_refunds,
        ),
        refund(
            method="GET",
            path="/v1/charges/{charge}/refunds",
            summary="List the refunds of a charge, newest first",
            table=tables.charges.LIST_REFUNDS,
            read=reads.list_refunds_of_charge,
        ),
        refund(
            method="GET",
            path="/v1/refunds/{refund}",
            summary="Retrieve a refund",
            table=tables.refunds.RETRIEVE,
            read=reads.retrieve_refund,
        ),
        refund(
            method="POST",
            path="/v1/refunds/{refund}",
            summary="Update a refund's metadata",
            table=tables.refunds.UPDATE,
            decide=refunds.update,
        ),
        refund(
            method="POST",
            path="/v1/refunds/{refund}/cancel",
            summary="Cancel a refund that waits for the customer",
            table=tables.refunds.CANCEL,
            decide=refunds.cancel,
        ),
        transaction(
            method="GET",
            path="/v1/balance_transactions",
            summary="List balance transactions, newest first",
            table=tables.balance_transactions.LIST,
            read=balances.list,
        ),
        transaction(
            method="GET",
            path="/v1/balance_transactions/{balance_transaction}",
            summary="Retrieve a balance transaction",
            table=tables.balance_transactions.RETRIEVE,
            read=balances.retrieve,
        ),
        event(
            method="GET",
            path="/v1/events",
            summary="List events of the last 30 days, newest first",
            table=tables.events.LIST,
            read=reads.list_events,
        ),
        event(
            method="GET",
            path="/v1/events/{event}",
            summary="Retrieve an event of the last 30 days",
            table=tables.events.RETRIEVE,
            read=reads.retrieve_event,
        ),
    ]
