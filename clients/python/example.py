"""Calls the internal API through the generated client: publishes an invoice, follows its Event, and more.

Settings: API_URL, API_OPERATOR_KEY (a restricted key with the scopes publish, catalog, audit and keys),
API_SECRET_KEY (reads Events). With API_CLIENT_SECRET and API_PUBLISHABLE_KEY it also exchanges a
customer session's client secret, as a front end does.
"""

import os
import sys
from uuid import uuid4

from ledger_client import AuthenticatedClient
from ledger_client.api.accounts_and_keys import create_key, revoke_key
from ledger_client.api.audit import read_object_history
from ledger_client.api.catalogue import record_customer
from ledger_client.api.customer_session import exchange_client_secret
from ledger_client.api.customer_sessions import list_customer_sessions
from ledger_client.api.event import list_events
from ledger_client.api.resources import publish_resource
from ledger_client.models import (
    ApiKey,
    Customer,
    CustomerBody,
    ElementsSession,
    ErrorAnswer,
    Event,
    EventList,
    KeyBody,
    KeyBodyKind,
    NewApiKey,
    ObjectChangeList,
    PublishBody,
    PublishBodyObject,
    SessionRecordList,
)


def read(name: str) -> str:
    """A setting. Ends the program with its name if it is not set."""
    if name not in os.environ:
        sys.exit(f"set {name}")
    return os.environ[name]


def connect(key: str) -> AuthenticatedClient:
    """A client of the service that sends this key."""
    return AuthenticatedClient(read("API_URL"), key, raise_on_unexpected_status=True)


def publish_invoice(operator: AuthenticatedClient, reader: AuthenticatedClient) -> None:
    """Publish an invoice of this service, and find its Event as every reader of Events does."""
    invoice_id = f"in_{uuid4().hex}"
    invoice = PublishBodyObject.from_dict({"status": "open", "amount_due": 2000, "currency": "usd"})
    body = PublishBody(event_type="invoice.created", object_=invoice)
    # Under an Idempotency-Key the call can be repeated after a lost answer.
    published = publish_resource.sync(
        "invoice", invoice_id, client=operator, body=body, idempotency_key=str(uuid4())
    )
    assert isinstance(published, Event), published
    found = list_events.sync(client=reader, type_="invoice.created", limit=1)
    assert isinstance(found, EventList), found
    assert found.data[0].id == published.id
    print("published:", found.data[0].type_, found.data[0].data.object_["id"] == invoice_id)


def show_history(operator: AuthenticatedClient) -> None:
    """Record a customer, and ask who changed it."""
    customer = record_customer.sync(client=operator, body=CustomerBody(name="Jenny Rosen"))
    assert isinstance(customer, Customer), customer
    history = read_object_history.sync(customer.id, client=operator)
    assert isinstance(history, ObjectChangeList), history
    for change in history.data:
        print("history:", change.type_, [event.type_ for event in change.events])


def roll_keys(operator: AuthenticatedClient) -> None:
    """Create a key that may only publish, and revoke it."""
    body = KeyBody(kind=KeyBodyKind.RK, name="billing", scopes=["publish"])
    created = create_key.sync(client=operator, body=body)
    assert isinstance(created, NewApiKey), created
    revoked = revoke_key.sync(created.id, client=operator)
    assert isinstance(revoked, ApiKey), revoked
    print("key:", created.scopes, created.state.value, "->", revoked.state.value)


def show_error(operator: AuthenticatedClient) -> None:
    """Errors are answers with a type of their own."""
    refused = revoke_key.sync("key_none", client=operator)
    assert isinstance(refused, ErrorAnswer)
    print("error:", refused.error.code)


def exchange(operator: AuthenticatedClient, client_secret: str) -> None:
    """Exchange a client secret, and see that it was used."""
    front_end = connect(read("API_PUBLISHABLE_KEY"))
    session = exchange_client_secret.sync(client=front_end, customer_session_client_secret=client_secret)
    assert isinstance(session, ElementsSession), session
    assert session.customer, session
    used = session.customer.customer_session
    records = list_customer_sessions.sync(client=operator, customer=used.customer)
    assert isinstance(records, SessionRecordList), records
    print("session:", [record.state.value for record in records.data if record.id == used.id])


def main() -> None:
    """Run all of it."""
    operator, reader = connect(read("API_OPERATOR_KEY")), connect(read("API_SECRET_KEY"))
    publish_invoice(operator, reader)
    show_history(operator)
    roll_keys(operator)
    show_error(operator)
    if client_secret := os.environ.get("API_CLIENT_SECRET"):
        exchange(operator, client_secret)


if __name__ == "__main__":
    main()
