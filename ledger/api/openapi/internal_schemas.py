"""Answers of the internal API other than those of the audit, which are in `audit_schemas`."""

from __future__ import annotations

from typing import get_args

from ledger.accounts import KeyKind, Mode
from ledger.api.openapi.alert_schemas import build_alert_schemas
from ledger.api.openapi.audit_schemas import build_audit_schemas
from ledger.api.openapi.dispute_schemas import build_dispute_schemas
from ledger.api.openapi.erasure_schemas import build_erasure_schemas
from ledger.api.openapi.privacy_schemas import build_privacy_schemas
from ledger.api.openapi.request_schemas import build_request_schemas
from ledger.api.openapi.retry_schemas import build_retry_schemas
from ledger.api.openapi.webhook_schemas import build_webhook_schemas
from ledger.domain.customer_session import DEFAULT_FEATURES
from ledger.wire.json_values import Json
from ledger.wire.schemas.catalog import build_schema, make_list_fields
from ledger.wire.schemas.fields import (
    Field,
    Fields,
    array,
    boolean,
    choice,
    component,
    constant,
    livemode,
    nullable_text,
    number,
    text,
    unix_time,
)

_CONNECTED: Fields = {
    "id": text("Id of the account.", "acct_1Nv0FGQ9RKHgCVdK"),
    "name": text("Its name.", "Berlin branch"),
    "platform": nullable_text("The account that it is connected to."),
}
_KEPT_ACCOUNT: Fields = {
    **_CONNECTED,
    "api_version": text("The API version of requests that name none.", "2026-10-28.endive"),
    "created_at": number("When it was created, in unix seconds.", 1795000000.0),
}
_KEY: Fields = {
    "id": text("Id of the key.", "key_0352CZ3z1jWpJM7B8upbma"),
    "account": text("Its account.", "acct_1Nv0FGQ9RKHgCVdK"),
    "kind": choice("sk: secret, rk: restricted, pk: publishable.", get_args(KeyKind)),
    "mode": choice("Its mode.", get_args(Mode)),
    "livemode": livemode(),
    "masked": text("The key, all but its last four digits hidden.", "rk_test_***9fKq"),
    "name": text("Its name.", "importer"),
    "scopes": array("Of a restricted key: what it may do.", text("A scope.", "catalog")),
    "state": choice("Whether it is valid.", ("active", "expired")),
    "created_at": number("When it was created, in unix seconds.", 1795000000.0),
    "expires_at": number("When it expires, in unix seconds.").or_null(),
    "last_used_at": number("When it was last used, in unix seconds; a few seconds late.").or_null(),
}
_SESSION: Fields = {
    "id": text("Id of the session.", "cuss_0352CZ3z1jWpJM7B8upbma"),
    "object": constant("customer_session"),
    "claimed_at": unix_time("When its client secret was exchanged.").or_null(),
    "component": choice("The enabled component.", tuple(DEFAULT_FEATURES), "payment_element"),
    "created": unix_time("When it was created."),
    "customer": text("The customer.", "cus_NffrFeUfNV2Hib"),
    "expires_at": unix_time("When it expires.", 1795001800),
    "livemode": livemode(),
    "revoked_at": unix_time("When it was revoked.").or_null(),
    "state": choice("Whether its client secret can be exchanged.", ("open", "claimed", "expired", "revoked")),
}
_FEED_TYPE: Fields = {
    "type": text("The type of recorded events.", "dispute.opened"),
    "events": array(
        "The types of the public Events that it makes; null if they depend on the event.",
        text("A type.", "charge.dispute.created"),
    ).or_null(),
}


def build_internal_schemas() -> dict[str, Json]:
    """The schemas by name."""
    secret = text("The key itself, which is shown this once.", "rk_test_…")
    objects: dict[str, tuple[str, Fields]] = {
        "connected_account": ("An account that was just created.", _CONNECTED),
        "kept_account": ("An account, for operators.", _KEPT_ACCOUNT),
        "api_key": ("A key, without its secret.", _KEY),
        "new_api_key": ("A key that was just created.", {**_KEY, "key": secret}),
        "session_record": ("A customer session, for support staff.", _SESSION),
        "kept_account_list": ("A page of accounts.", _make_page("kept_account")),
        "api_key_list": ("A page of keys.", _make_page("api_key")),
        "session_record_list": ("A page.", make_list_fields(component("A session.", "session_record"))),
        "feed_type": ("A type of recorded events.", _FEED_TYPE),
        "feed_type_list": ("All types.", make_list_fields(component("A type.", "feed_type"))),
        "clock_time": ("The test clock.", {"now": number("The time, in unix seconds.", 1795000000.0)}),
    }
    own = {name: build_schema(description, fields) for name, (description, fields) in objects.items()}
    others = (
        build_alert_schemas(),
        build_erasure_schemas(),
        build_audit_schemas(),
        build_dispute_schemas(),
        build_privacy_schemas(),
        build_request_schemas(),
        build_retry_schemas(),
        build_webhook_schemas(),
    )
    return own | {name: schema for schemas in others for name, schema in schemas.items()}


def _make_page(name: str) -> Fields:
    items: Field = array("The items of this page.", component("An item.", name))
    return {"data": items, "has_more": boolean("Whether there are more after this page.")}
