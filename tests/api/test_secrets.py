"""Secrets and personal data are not readable in the log file or in the database (README, invariant 7)."""

from __future__ import annotations

import httpx
import psycopg
import pytest

from tests.api.conftest import SECRETS
from tests.api.service import Account, Caller, Service, ok

TEXT = "the customer wrote: my_secret_evidence_text"
PERSONAL = {
    "name": "Rumpelstilzchen", "email": "rumpel@example.com", "phone": "+49555000111",
    "description": "a dwarf",
    "address[line1]": "Am Feuer 1", "shipping[name]": "Der Koenig", "shipping[address][city]": "Goldstadt",
    "metadata[hint]": "spinnt Stroh", "business_name": "Stroh zu Gold",
}  # fmt: skip


@pytest.fixture
def secrets(raw: Caller, account: Account) -> list[str]:
    """Send personal data and secrets of every kind through the service; the texts that must not be found."""
    customer = raw.customer(**PERSONAL)["id"]
    ok(raw.post(f"/v1/customers/{customer}", {"name": "Heinzelmann", "email": "other@example.com"}))
    dispute = raw.dispute(description="bought_by_Heinzelmann", receipt_email="receipt@example.com")
    form = {"evidence[uncategorized_text]": TEXT, "evidence[customer_name]": "Heinzelmann"}
    ok(raw.post(f"/v1/disputes/{dispute['id']}", form | {"submit": "false"}, idempotency_key="k"))
    ok(raw.post(f"/v1/disputes/{dispute['id']}", form | {"evidence[billing_address]": "Am Feuer 1"}))
    session = ok(
        raw.post(
            "/v1/customer_sessions",
            {"customer": customer, "components[buy_button][enabled]": "true"},
            idempotency_key="session",
        )
    )
    made: str = session["client_secret"]
    endpoint = ok(
        raw.post(
            "/v1/webhook_endpoints",
            {"url": "https://hooks.example.com/", "enabled_events[]": "*"},
            idempotency_key="endpoint",
        )
    )
    paid = ok(
        raw.post(
            "/v1/payment_intents",
            {
                "amount": 2000,
                "currency": "usd",
                "payment_method": "pm_card_visa",
                "confirm": "true",
                "description": "bought_by_Heinzelmann",
                "receipt_email": "receipt@example.com",
            },
            idempotency_key="intent",
        )
    )
    raw.get(f"/v1/payment_intents/{paid['client_secret']}")
    uploaded = raw.http.post(
        "/v1/files",
        files={"file": ("a.png", b"\x89PNG\r\n\x1a\n")},
        data={"purpose": "dispute_evidence", "file_link_data[create]": "true"},
        headers={"authorization": f"Bearer {raw.key}", "idempotency-key": "upload"},
    )
    link = ok(uploaded)["links"]["data"][0]
    ok(raw.post("/v1/file_links", {"file": link["file"]}, idempotency_key="link"))
    ok(raw.post(f"/v1/file_links/{link['id']}", {"metadata[a]": "1"}, idempotency_key="updated link"))
    assert httpx.get(link["url"]).status_code == 200
    wrong = "sk_test_" + "Wrong" * 6
    for key in (wrong, account.publishable):
        Caller(raw.http, key).get("/v1/customers")
    raw.get(f"/v1/customers?email={account.secret}")
    raw.get(f"/v1/customers/{account.secret}")
    raw.get(f"/v1/events/{made}")
    raw.get(f"/v1/webhook_endpoints/{endpoint['secret']}")
    digits = link["url"].rpartition(".")[2]
    assert len(digits) == 32
    keys = [account.secret, account.live_secret, account.publishable]
    return [made, endpoint["secret"], paid["client_secret"], digits, wrong, *keys]


def test_the_log_file_has_no_key_no_secret_and_no_evidence(
    secrets: list[str], service: Service, account: Account
) -> None:
    log = service.log
    assert account.id in log, "requests are logged"
    for secret in [*secrets, TEXT, "my_secret_evidence_text", *PERSONAL.values(), "Heinzelmann", "receipt@"]:
        assert secret not in log
    assert not SECRETS.search(log)


def test_what_is_sent_in_place_of_an_id_is_not_logged(raw: Caller, service: Service) -> None:
    for path in ("/internal/v1/audit/objects/", "/v1/disputes/", "/v1/customers/"):
        for text in ("frau.holle@example.com", "frau.holle%40example.com", "Frau%20Holle", "Fr%C3%A4ulein"):
            assert raw.get(f"{path}{text}").status_code in (403, 404)
    logged = service.log
    assert [text for text in ("holle", "Holle", "Fr\u00e4ulein", "%C3%A4ulein") if text in logged] == []
    assert '"path":"/v1/disputes/[removed]"' in logged


def test_recorded_events_have_no_readable_personal_data(
    secrets: list[str], service: Service, account: Account
) -> None:
    with psycopg.connect(service.dsn) as conn:
        rows = conn.execute("SELECT state FROM ledger.events WHERE account = %s", (account.id,)).fetchall()
    states = b"\n".join(bytes(row[0]) for row in rows)
    assert len(rows) >= 6
    for text in (*PERSONAL.values(), "Heinzelmann", "other@example.com", TEXT, "secret_evidence", "receipt@"):
        assert text.encode() not in states
    assert b"2000" in states, "it is the personal parts that are sealed, no more"


def test_no_secret_is_in_the_database(secrets: list[str], service: Service) -> None:
    with psycopg.connect(service.dsn) as conn:
        tables = conn.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('ledger', 'projections')"
        ).fetchall()
        for schema, table in tables:
            query = psycopg.sql.SQL("SELECT t::text FROM {} t").format(psycopg.sql.Identifier(schema, table))
            text = "\n".join(row[0] for row in conn.execute(query))
            for secret in secrets:
                assert secret not in text, (schema, table)
                assert secret.encode().hex() not in text, (schema, table)
