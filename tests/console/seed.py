"""An account as the console is to show it: objects in every state, deliveries that fail, and hostile content.

All of it comes through the public and the internal API, as a user would make it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from tests.api.service import Account, Caller, Registrar, ok
from tests.webhooks.receiver import Receiver, ScriptedResponse

SCRIPT = "<script>window.hacked = 1</script>"
IMAGE = '<img src="x" onerror="window.hacked = 1">'
HOSTILE_NAME = f'"><b>Bobby</b> {SCRIPT}'
LONG_TEXT = f"{IMAGE} The parcel was delivered. ".ljust(20_000, "x")  # as long as one text of evidence may be
LONG_FIELDS = (
    "access_activity_log", "cancellation_policy_disclosure", "cancellation_rebuttal",
    "duplicate_charge_explanation", "refund_policy_disclosure", "refund_refusal_explanation",
    "uncategorized_text",
)  # fmt: skip
VERY_LONG_TEXT = f"{SCRIPT} ".ljust(150_000, "y")
DEEP = 28  # objects of other services may have 32 levels
STATES = {
    "needs_response": ("tok_createDispute", None),
    "under_review": ("tok_createDispute", "It was delivered."),
    "won": ("tok_createDispute", "winning_evidence"),
    "lost": ("tok_createDisputeProductNotReceived", "losing_evidence"),
    "warning_needs_response": ("tok_createDisputeInquiry", None),
    "warning_under_review": ("tok_createDisputeInquiry", "The customer was answered."),
    "warning_closed": ("tok_createDisputeInquiry", "winning_evidence"),
}


class Shop(NamedTuple):
    """Ids of what was made. `disputes` by state; `hostile` has markup in every text."""

    account: Account
    connected: str
    customer: str
    charge: str
    refund: str
    file: str
    disputes: Mapping[str, str]
    hostile_customer: str
    hostile_dispute: str
    deep_resource: str
    accepting_endpoint: str
    failing_endpoint: str


def make_shop(
    raw: Caller, operator: Caller, account: Account, registrar: Registrar, receiver: Receiver
) -> Shop:
    """Fill an account."""
    receiver.scripts["/failing"] = [ScriptedResponse(500, f"<h1>Down</h1>{SCRIPT}".encode())]
    accepting = make_endpoint(raw, receiver.url("/accepting"), "charge.*", "customer.created")
    failing = make_endpoint(raw, receiver.url("/failing"), "charge.dispute.created", "customer.created")
    customer = raw.customer(name="Jenny Rosen", email="jenny@example.com", **{"metadata[plan]": "gold"})["id"]
    ok(raw.post(f"/v1/customers/{customer}", {"name": "Jenny R. Rosen", "phone": "+15550100"}))
    charge = raw.charge(description="Two lamps", **{"metadata[order]": "1001"})["id"]
    file = upload_picture(raw)
    disputes = {state: make_dispute(raw, *how, file=file) for state, how in STATES.items()}
    hostile = raw.customer(name=HOSTILE_NAME, email="bobby@example.com", **{"metadata[note]": IMAGE})["id"]
    connected = registrar.account(platform=account.id).id
    ok(raw.post("/v1/customers", {"name": "A customer of a shop"}, stripe_account=connected))
    return Shop(
        account=account,
        connected=connected,
        customer=customer,
        charge=charge,
        refund=raw.refund(amount=500)["id"],
        file=file,
        disputes=disputes,
        hostile_customer=hostile,
        hostile_dispute=make_hostile_dispute(raw),
        deep_resource=publish_deep_resource(operator),
        accepting_endpoint=accepting,
        failing_endpoint=failing,
    )


def make_endpoint(raw: Caller, url: str, *types: str) -> str:
    form = {
        "url": url,
        **{f"enabled_events[{place}]": name for place, name in enumerate(expand_types(types))},
    }
    return str(ok(raw.post("/v1/webhook_endpoints", form))["id"])


def expand_types(types: tuple[str, ...]) -> tuple[str, ...]:
    """Endpoints name each type, or all."""
    charges = ("charge.succeeded", "charge.refunded", "charge.dispute.created", "charge.dispute.closed")
    return tuple(each for name in types for each in (charges if name == "charge.*" else (name,)))


def make_dispute(raw: Caller, source: str, text: str | None, *, file: str) -> str:
    """A dispute of a new charge: with staged evidence, or with evidence that is submitted."""
    dispute = str(raw.dispute(source, amount=4200)["id"])
    form = {"evidence[receipt]": file, "evidence[customer_name]": "Jenny Rosen"}
    if text is not None:
        form |= {"evidence[uncategorized_text]": text, "submit": "true"}
    else:
        form["submit"] = "false"
    ok(raw.post(f"/v1/disputes/{dispute}", form))
    return dispute


def make_hostile_dispute(raw: Caller) -> str:
    dispute = str(raw.dispute()["id"])
    texts = {
        "evidence[customer_name]": HOSTILE_NAME,
        "evidence[product_description]": f"</textarea>{IMAGE}",
        **{f"evidence[{name}]": LONG_TEXT for name in LONG_FIELDS},
        "metadata[note]": SCRIPT,
        "submit": "false",
    }
    ok(raw.post(f"/v1/disputes/{dispute}", texts))
    return dispute


def publish_deep_resource(operator: Caller) -> str:
    deep: dict[str, Any] = {"end": IMAGE}
    for _ in range(DEEP):
        deep = {"deeper": deep}
    named = "in_console_deep_0001"
    answer = operator.http.put(
        f"/internal/v1/resources/invoice/{named}",
        json={
            "event_type": "invoice.created",
            "object": {"amount_due": 2000, "note": SCRIPT, "text": VERY_LONG_TEXT, "deep": deep},
        },
        headers={"authorization": f"Bearer {operator.key}"},
    )
    ok(answer)
    return named


def upload_picture(raw: Caller) -> str:
    answer = raw.http.post(
        "/v1/files",
        files={"file": ("receipt.png", make_png(160, 96))},
        data={"purpose": "dispute_evidence"},
        headers={"authorization": f"Bearer {raw.key}"},
    )
    return str(ok(answer)["id"])


def make_png(width: int, height: int) -> bytes:
    """A picture: stripes, in shades of grey."""
    rows = b"".join(b"\0" + bytes((x * 7 + y * 3) % 256 for x in range(width)) for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
