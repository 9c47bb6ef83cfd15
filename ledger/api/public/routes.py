"""Every operation of the public API, in one table: method, path, parameters, permission, and what runs.

A command is a function of (call, context, now) in `ledger.commands`, a read a function of (call, context)
in `ledger.queries`.
"""

from __future__ import annotations

from functools import partial

from ledger.api.public.account_routes import ACCOUNTS, BALANCE
from ledger.api.public.file_routes import FILES
from ledger.api.public.intent_routes import PAYMENT_INTENTS
from ledger.api.public.operations import Operation
from ledger.api.public.privacy_routes import REDACTION_JOBS
from ledger.api.public.published_routes import PUBLISHED
from ledger.api.public.webhook_routes import WEBHOOK_ENDPOINTS
from ledger.commands import charges, customer_sessions, customers, disputes, refunds
from ledger.queries import balance_transactions, events, payment_methods
from ledger.queries import charges as charge_queries
from ledger.queries import customers as customer_queries
from ledger.queries import disputes as dispute_queries
from ledger.queries import refunds as refund_queries
from ledger.stripe_cli.event_retry import retry_event
from ledger.wire import tables

_customer = partial(Operation, resource="customer", expandable="customer")
_source = partial(Operation, resource="customer", expandable="card")
_payment_method = partial(Operation, expandable="payment_method")
_charge = partial(Operation, resource="charge", expandable="charge")
_session = partial(Operation, resource="customer_session", expandable="customer_session")
_dispute = partial(Operation, resource="dispute", expandable="dispute")
_refund = partial(Operation, resource="charge", expandable="refund")
_transaction = partial(Operation, resource="balance_transaction", expandable="balance_transaction")
_event = partial(Operation, resource="event", expandable="event")

CUSTOMERS = (
    _customer(
        method="POST",
        path="/v1/customers",
        summary="Create a customer",
        table=tables.customers.CREATE,
        decide=customers.create,
    ),
    _customer(
        method="GET",
        path="/v1/customers",
        summary="List customers, newest first",
        table=tables.customers.LIST,
        read=customer_queries.list_customers,
    ),
    _customer(
        method="GET",
        path="/v1/customers/{customer}",
        summary="Retrieve a customer",
        table=tables.customers.RETRIEVE,
        read=customer_queries.retrieve,
        open_to="ek",
    ),
    _customer(
        method="POST",
        path="/v1/customers/{customer}",
        summary="Update a customer",
        table=tables.customers.UPDATE,
        decide=customers.update,
    ),
    _customer(
        method="DELETE",
        path="/v1/customers/{customer}",
        summary="Delete a customer",
        table=tables.customers.DELETE,
        decide=customers.delete,
    ),
)
SOURCES = (
    _source(
        method="GET",
        path="/v1/customers/{customer}/sources",
        summary="List a customer's cards, newest first",
        table=tables.payment_methods.LIST_SOURCES,
        read=payment_methods.list_sources,
    ),
    _source(
        method="GET",
        path="/v1/customers/{customer}/sources/{source}",
        summary="Retrieve a customer's card",
        table=tables.payment_methods.RETRIEVE_SOURCE,
        read=payment_methods.retrieve_source,
    ),
)
PAYMENT_METHODS = (
    _payment_method(
        method="GET",
        path="/v1/customers/{customer}/payment_methods",
        summary="List a customer's payment methods, newest first",
        table=tables.payment_methods.LIST_OF_CUSTOMER,
        resource="customer",
        read=payment_methods.list_of_customer,
        open_to="ek",
    ),
    _payment_method(
        method="GET",
        path="/v1/customers/{customer}/payment_methods/{payment_method}",
        summary="Retrieve a customer's payment method",
        table=tables.payment_methods.RETRIEVE,
        resource="customer",
        read=payment_methods.retrieve_of_customer,
    ),
    _payment_method(
        method="GET",
        path="/v1/payment_methods",
        summary="List payment methods, newest first",
        table=tables.payment_methods.LIST,
        resource="payment_method",
        read=payment_methods.list_payment_methods,
    ),
    _payment_method(
        method="GET",
        path="/v1/payment_methods/{payment_method}",
        summary="Retrieve a payment method",
        table=tables.payment_methods.RETRIEVE,
        resource="payment_method",
        read=payment_methods.retrieve,
    ),
)
CHARGES = (
    _charge(
        method="POST",
        path="/v1/charges",
        summary="Create a charge",
        table=tables.charges.CREATE,
        decide=charges.create,
    ),
    _charge(
        method="GET",
        path="/v1/charges",
        summary="List charges, newest first",
        table=tables.charges.LIST,
        read=charge_queries.list_charges,
    ),
    _charge(
        method="GET",
        path="/v1/charges/{charge}",
        summary="Retrieve a charge",
        table=tables.charges.RETRIEVE,
        read=charge_queries.retrieve,
    ),
    _charge(
        method="POST",
        path="/v1/charges/{charge}",
        summary="Update a charge",
        table=tables.charges.UPDATE,
        decide=charges.update,
    ),
    _charge(
        method="POST",
        path="/v1/charges/{charge}/capture",
        summary="Capture an authorised charge",
        table=tables.charges.CAPTURE,
        decide=charges.capture,
    ),
)
CUSTOMER_SESSIONS = (
    _session(
        method="POST",
        path="/v1/customer_sessions",
        summary="Create a customer session",
        table=tables.customer_sessions.CREATE,
        decide=customer_sessions.create,
    ),
    _session(
        method="GET",
        path="/v1/elements/sessions",
        summary="Exchange a customer session's client secret, with a publishable key",
        table=tables.elements.SESSION,
        decide=customer_sessions.exchange,
        open_to="pk",
    ),
)
DISPUTES = (
    _dispute(
        method="GET",
        path="/v1/disputes",
        summary="List disputes, newest first",
        table=tables.disputes.LIST,
        read=dispute_queries.list_disputes,
    ),
    _dispute(
        method="GET",
        path="/v1/disputes/{dispute}",
        summary="Retrieve a dispute",
        table=tables.disputes.RETRIEVE,
        read=dispute_queries.retrieve,
    ),
    _dispute(
        method="POST",
        path="/v1/disputes/{dispute}",
        summary="Stage or submit evidence, or update a dispute",
        table=tables.disputes.UPDATE,
        decide=disputes.update,
    ),
    _dispute(
        method="POST",
        path="/v1/disputes/{dispute}/close",
        summary="Close a dispute and accept its loss",
        table=tables.disputes.CLOSE,
        decide=disputes.close,
    ),
    _dispute(
        method="GET",
        path="/v1/charges/{charge}/dispute",
        summary="Retrieve the newest dispute of a charge (legacy)",
        table=tables.disputes.RETRIEVE,
        read=dispute_queries.retrieve_newest,
    ),
    _dispute(
        method="POST",
        path="/v1/charges/{charge}/dispute",
        summary="Update the newest dispute of a charge (legacy)",
        table=tables.disputes.UPDATE,
        decide=disputes.update_newest,
    ),
    _dispute(
        method="POST",
        path="/v1/charges/{charge}/dispute/close",
        summary="Close the newest dispute of a charge and accept its loss (legacy)",
        table=tables.disputes.CLOSE,
        decide=disputes.close_newest,
    ),
)
REFUNDS = (
    _refund(
        method="POST",
        path="/v1/refunds",
        summary="Refund a charge, in part or in full",
        table=tables.refunds.CREATE,
        decide=refunds.create,
    ),
    _refund(
        method="GET",
        path="/v1/refunds",
        summary="List refunds, newest first",
        table=tables.refunds.LIST,
        read=refund_queries.list_refunds,
    ),
    _refund(
        method="GET",
        path="/v1/charges/{charge}/refunds",
        summary="List the refunds of a charge, newest first",
        table=tables.charges.LIST_REFUNDS,
        read=refund_queries.list_refunds_of_charge,
    ),
    _refund(
        method="GET",
        path="/v1/refunds/{refund}",
        summary="Retrieve a refund",
        table=tables.refunds.RETRIEVE,
        read=refund_queries.retrieve,
    ),
    _refund(
        method="POST",
        path="/v1/refunds/{refund}",
        summary="Update a refund's metadata",
        table=tables.refunds.UPDATE,
        decide=refunds.update,
    ),
    _refund(
        method="POST",
        path="/v1/refunds/{refund}/cancel",
        summary="Cancel a refund that waits for the customer",
        table=tables.refunds.CANCEL,
        decide=refunds.cancel,
    ),
)
BALANCE_TRANSACTIONS = (
    _transaction(
        method="GET",
        path="/v1/balance_transactions",
        summary="List balance transactions, newest first",
        table=tables.balance_transactions.LIST,
        read=balance_transactions.list_balance_transactions,
    ),
    _transaction(
        method="GET",
        path="/v1/balance_transactions/{balance_transaction}",
        summary="Retrieve a balance transaction",
        table=tables.balance_transactions.RETRIEVE,
        read=balance_transactions.retrieve,
    ),
)
EVENTS = (
    _event(
        method="GET",
        path="/v1/events",
        summary="List events of the last 30 days, newest first",
        table=tables.events.LIST,
        read=events.list_events,
    ),
    _event(
        method="GET",
        path="/v1/events/{event}",
        summary="Retrieve an event of the last 30 days",
        table=tables.events.RETRIEVE,
        read=events.retrieve,
    ),
    _event(
        method="POST",
        path="/v1/events/{event}/retry",
        summary="Send an event again, to a webhook endpoint or to the listeners of the Stripe CLI",
        table=tables.events.RETRY,
        change=retry_event,
    ),
)
OPERATIONS: tuple[Operation, ...] = (
    *CUSTOMERS,
    *SOURCES,
    *PAYMENT_METHODS,
    *CHARGES,
    *CUSTOMER_SESSIONS,
    *DISPUTES,
    *PAYMENT_INTENTS,
    *REFUNDS,
    *BALANCE_TRANSACTIONS,
    *EVENTS,
    *FILES,
    *WEBHOOK_ENDPOINTS,
    *REDACTION_JOBS,
    *ACCOUNTS,
    *BALANCE,
    *PUBLISHED,
)
