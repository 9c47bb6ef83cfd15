"""The commands of the Stripe CLI that make requests: what the service answers, and how the CLI takes it."""

from __future__ import annotations

import io
from typing import Any

import pytest
import stripe

from tests.api.service import Account, Caller, Registrar, Service, ok
from tests.stripe_cli.cli import RefusingProxy, StripeCli, needs_stripe_cli

pytestmark = needs_stripe_cli

NOT_HERE = [
    ("customers", "search", "--query", "name:'x'"),
    ("v2", "core", "accounts", "list"),
    ("post", "/v1/products", "-d", "name=x"),
]
NOT_IN_CLI = [
    (("status",), "no longer available"),
    (("playback",), "Unknown command"),
    (("get", "du_0123456789abcdefghijkl"), "unrecognized object id"),
    (("listen", "-s", "--forward-to", "127.0.0.1:9"), "--all-snapshot"),
    (("listen", "-s", "--events", "*"), "--all-snapshot"),
]
"""Commands that the CLI refuses by itself, and a part of its message."""


def test_customers(cli: StripeCli, raw: Caller) -> None:
    created = cli.call("customers", "create", "--email", "jenny@example.com", "--address", "{}",
                       "-d", "metadata[order]=6735", "--preferred-locales", "en")  # fmt: skip
    assert (created["email"], created["address"]) == ("jenny@example.com", None)
    assert (created["metadata"], created["preferred_locales"]) == ({"order": "6735"}, ["en"])
    updated = cli.call("customers", "update", created["id"], "--name", "Jenny Rosen")
    assert cli.call("customers", "retrieve", created["id"]) == updated == created | {"name": "Jenny Rosen"}
    assert cli.call("customers", "list", "--limit", "1")["data"] == [updated]
    asked = cli.run("customers", "delete", created["id"])
    assert (asked.status, "Enter 'yes' to confirm" in asked.output + asked.errors) == (1, True)
    assert ok(raw.get(f"/v1/customers/{created['id']}")) == updated
    deleted = cli.run("customers", "delete", created["id"], stdin="yes\n")
    assert deleted.status == 0
    assert ok(raw.get(f"/v1/customers/{created['id']}"))["deleted"] is True


def test_charges_refunds_and_transactions(cli: StripeCli) -> None:
    charge = cli.call("charges", "create", "--amount", "2000", "--currency", "usd", "--source", "tok_visa",
                      "-d", "capture=false")  # fmt: skip
    captured = cli.call("charges", "capture", charge["id"])
    assert (charge["captured"], captured["amount_captured"]) == (False, 2000)
    refund = cli.call("refunds", "create", "--charge", charge["id"], "--amount", "500")
    cli.call("refunds", "update", refund["id"], "-d", "metadata[order]=6735")
    assert cli.call("refunds", "retrieve", refund["id"])["metadata"] == {"order": "6735"}
    shown = cli.call("charges", "retrieve", charge["id"], "-e", "balance_transaction")
    assert shown["balance_transaction"]["amount"] == 2000
    assert shown["amount_refunded"] == 500
    transactions = cli.call("balance_transactions", "list", "--type", "refund")["data"]
    assert [transaction["source"] for transaction in transactions] == [refund["id"]]
    assert cli.call("balance", "retrieve")["pending"][0]["amount"] > 0


def test_payment_intents_and_their_disputes(cli: StripeCli) -> None:
    intent = cli.call("payment_intents", "create", "--amount", "2000", "--currency", "usd",
                      "--payment-method", "pm_card_createDisputeInquiry", "-d", "confirm=true")  # fmt: skip
    disputes = cli.call("disputes", "list", "--payment-intent", intent["id"])["data"]
    (dispute,) = disputes
    evidence = ("-d", "evidence[product_description]=A pair of shoes", "-d", "submit=false")
    staged = cli.call("disputes", "update", dispute["id"], *evidence)
    assert staged["evidence"]["product_description"] == "A pair of shoes"
    closed = cli.run("disputes", "close", dispute["id"], "--confirm")
    assert closed.status == 0, closed
    assert cli.call("get", f"/v1/disputes/{dispute['id']}")["status"] == "warning_closed"


def test_get_finds_an_object_by_its_id(cli: StripeCli, client: stripe.StripeClient, account: Account) -> None:
    charge = client.v1.charges.create({"amount": 2000, "currency": "usd", "source": "tok_visa"})
    refund = client.v1.refunds.create({"charge": charge.id})
    file = client.v1.files.create({"purpose": "dispute_evidence", "file": io.BytesIO(b"%PDF-1.4")})
    link = client.v1.file_links.create({"file": file.id})
    endpoint = client.v1.webhook_endpoints.create({"url": "http://127.0.0.1:9/", "enabled_events": ["*"]})
    (event, *_) = client.v1.events.list().data
    assert isinstance(charge.balance_transaction, str)
    names = (refund.id, charge.balance_transaction, file.id, link.id, endpoint.id, event.id, account.id)
    for name in names:
        assert cli.call("get", name)["id"] == name
    assert [each["id"] for each in cli.call("files", "list")["data"]] == [file.id]
    assert [each["id"] for each in cli.call("file_links", "list")["data"]] == [link.id]


def test_events_and_webhook_endpoints(cli: StripeCli, raw: Caller) -> None:
    endpoint = cli.call("webhook_endpoints", "create", "--url", "http://127.0.0.1:9/",
                        "--enabled-events", "charge.failed")  # fmt: skip
    assert endpoint["secret"].startswith("whsec_")
    updated = cli.call("webhook_endpoints", "update", endpoint["id"], "-d", "disabled=true")
    assert updated["status"] == "disabled"
    assert cli.call("webhook_endpoints", "list")["data"] == [updated]
    assert cli.run("webhook_endpoints", "delete", endpoint["id"], "-c").status == 0
    assert ok(raw.get("/v1/webhook_endpoints"))["data"] == []
    customer = raw.customer()
    session = cli.call("customer_sessions", "create", "--customer", customer["id"],
                       "-d", "components[buy_button][enabled]=true")  # fmt: skip
    assert session["customer"] == customer["id"]
    (event,) = cli.call("events", "list", "--type", "customer.created")["data"]
    assert cli.call("events", "retrieve", event["id"]) == event


def test_options_of_get_and_post(
    cli: StripeCli, raw: Caller, registrar: Registrar, service: Service, proxy: RefusingProxy
) -> None:
    create = ("post", "/v1/customers", "-d", "name=Jenny", "-i", "a key", "-v", "2020-08-27", "-s")
    first, again = cli.run(*create), cli.run(*create)
    assert first.output == again.output
    assert "< Stripe-Version: 2020-08-27" in first.errors
    middle, last = raw.customer(), raw.customer()
    names = [customer["id"] for customer in ok(raw.get("/v1/customers"))["data"]]
    assert names[:2] == [last["id"], middle["id"]]
    assert len(names) == 3
    pages = [("-l", "1"), ("-a", names[0], "-l", "1"), ("-b", names[2])]
    shown = [cli.call("get", "/v1/customers", *page)["data"] for page in pages]
    assert [[customer["id"] for customer in page] for page in shown] == [names[:1], names[1:2], names[:2]]
    previewed = cli.call("delete", f"/v1/customers/{names[0]}", "--dry-run")["dry_run"]
    assert previewed["method"] == "DELETE"
    assert ok(raw.get(f"/v1/customers/{names[0]}")) == last

    platform = registrar.account()
    connected = registrar.account(platform=platform.id)
    of_platform = StripeCli(cli.home, service.url, platform.secret, proxy)
    made = of_platform.call("customers", "create", "--stripe-account", connected.id)
    found = StripeCli(cli.home, service.url, connected.secret, proxy).call("get", made["id"])
    assert found["id"] == made["id"]
    assert of_platform.call("get", "/v1/customers")["data"] == []


@pytest.mark.parametrize("arguments", NOT_HERE, ids=" ".join)
def test_what_the_service_does_not_have_says_so(arguments: tuple[str, ...], cli: StripeCli) -> None:
    completed = cli.run(*arguments)
    assert "Ledger does not have" in completed.answer["error"]["message"]


@pytest.mark.parametrize(("arguments", "message"), NOT_IN_CLI, ids=lambda words: " ".join(words)[:40])
def test_what_the_cli_refuses_by_itself(arguments: tuple[str, ...], message: str, cli: StripeCli) -> None:
    completed = cli.run(*arguments)
    assert completed.status == 1
    assert message in completed.output + completed.errors


def test_only_a_wrong_key_ends_with_a_status(cli: StripeCli, service: Service) -> None:
    """The CLI prints every other error to standard output, and ends with 0."""
    declined = cli.run("charges", "create", "--amount", "100", "--currency", "usd",
                       "--source", "tok_chargeDeclined")  # fmt: skip
    assert (declined.status, declined.answer["error"]["code"]) == (0, "card_declined")
    misspelt = cli.run("post", "/v1/customers", "-d", "nmae=Jenny")
    assert (misspelt.status, misspelt.answer["error"]["param"]) == (0, "nmae")
    missing = cli.run("get", "/v1/disputes/du_none")
    assert (missing.status, missing.answer["error"]["code"]) == (0, "resource_missing")
    upload = cli.run("files", "create", "-d", "purpose=dispute_evidence", "-d", "file=@fixtures.json")
    assert (upload.status, upload.answer["error"]["param"]) == (0, "file")
    refused = cli.run("get", "/v1/customers", STRIPE_API_KEY="sk_test_0123456789abcdef")
    assert (refused.status, refused.output) == (1, "")
    assert "Invalid API Key provided" in refused.errors


def test_the_address_must_be_a_loopback_number(cli: StripeCli, service: Service) -> None:
    cli.url = f"http://localhost:{service.port}"
    refused = cli.run("get", "/v1/customers")
    assert refused.status == 1
    assert "invalid API base URL" in refused.output + refused.errors


def test_a_key_can_be_kept_without_a_login(cli: StripeCli, account: Account) -> None:
    """In the profile of docs/stripe-cli.md, "Set up"; a key in the environment comes before an option."""
    without: dict[str, Any] = {"STRIPE_API_KEY": ""}
    assert cli.run("config", "--set", "test_mode_api_key", account.secret, **without).status == 0
    assert cli.call("get", "/v1/customers", **without)["data"] == []
    assert "Sandbox key:          available" in cli.run("whoami", **without).output
    wrong = "sk_test_0123456789abcdef"
    assert cli.run("get", "/v1/customers", "--api-key", wrong, **without).status == 1
    assert cli.run("get", "/v1/customers", "--api-key", wrong).status == 0
