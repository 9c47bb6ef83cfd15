"""Answers of the audit API (internal API §2)."""

from __future__ import annotations

from ledger.domain.postings import DISPUTE_FEES, MERCHANT_BALANCE, NETWORK, PROCESSING_FEES
from ledger.tree.witnesses.cosignatures import WitnessState
from ledger.wire.json_values import Json
from ledger.wire.schemas.catalog import build_schema, make_list_fields
from ledger.wire.schemas.fields import (
    Field,
    Fields,
    amount,
    anything,
    array,
    boolean,
    choice,
    component,
    constant,
    currency,
    document,
    hash_of,
    integer,
    iso_time,
    livemode,
    nullable_text,
    number,
    text,
    unix_time,
)

HIT_KINDS = (
    "object", "event", "balance_transaction", "key", "account", "position", "request", "idempotency_key",
    "payment_method", "email", "delivery", "replay",
)  # fmt: skip
LEDGER_ACCOUNTS = (NETWORK, MERCHANT_BALANCE, PROCESSING_FEES, DISPUTE_FEES)
_HASH = text("A hash, in base64.", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")
_NEXT_POSITION = integer("Where the next page begins: its `starting_after`; null at the end.", 40210)
_POSITION = integer("Position in the log.", 40210)
_MOMENT: Fields = {"position": _POSITION, "time": iso_time("The time.")}
_REDACTION = choice(
    "How far the erasure of its personal data is; null if there was none.", ("processing", "redacted")
).or_null()
_AS_OF = hash_of("The moment of which it is.", _MOMENT)
_VERSIONED_MOMENT: Fields = {**_MOMENT, "version": integer("Version of the object; 0: not created yet.", 3)}
_PUBLIC_EVENT: Fields = {
    "id": text("Id of the Event.", "evt_1NG8Du2eZvKYlo2CUI79vXWy"),
    "type": text("Its type.", "charge.dispute.updated"),
}
_ACTOR = hash_of(
    "Who did it: a key, or `cli`; null for the time and the network.",
    {
        "id": text("Id of the key, or `cli`.", "key_0352CZ3z1jWpJM7B8upbma"),
        "name": nullable_text("Name of the key.", "importer"),
        "key": nullable_text("The key, all but its last four digits hidden.", "sk_test_***9fKq"),
    },
).or_null()
_CAUSATION = hash_of(
    "What caused it besides a request: `type`, and what belongs to that type.",
    {
        "type": choice("What it was.", ("clock", "network_fact", "import", "change", "event")),
        "reference": nullable_text("Of a network fact: its reference.").or_missing(),
        "request_id": nullable_text("Of an import: its request.").or_missing(),
        "object": nullable_text("Of a change: the object that changed.").or_missing(),
        "event": nullable_text("Of an event: the one to which the caller reacted.").or_missing(),
        "snapshot_event": nullable_text("Of an event: its snapshot, which has the object.").or_missing(),
        "version": integer("Of a change: the object's version.").or_null().or_missing(),
    },
).or_null()
_REQUEST: Fields = {
    "request_id": nullable_text("Id of the request.", "req_0352CZ3z1jWpJM7B8upbma"),
    "idempotency_key": nullable_text("Its Idempotency-Key."),
    "causation": _CAUSATION,
}
_CHANGE: Fields = {
    "path": text("The member, in brackets if it is nested.", "evidence[receipt]"),
    "before": anything("Its value before; null: it did not exist."),
    "after": anything("Its value after.", "file_1Mr4LDLkdIwHu7ixFCz0dZiH"),
    "personal_data": boolean("Whether the values are withheld.", example=True).or_missing(),
    "redacted": boolean("Whether one of the values is redacted.", example=True).or_missing(),
}
_CHANGES = array("What changed.", hash_of("A member.", _CHANGE))
_HISTORY_ENTRY: Fields = {
    "position": _POSITION,
    "version": integer("Version of the object.", 2),
    "time": iso_time("When it was recorded."),
    "type": text("Type of the recorded event.", "dispute.evidence_staged"),
    "actor": _ACTOR,
    **_REQUEST,
    "changes": _CHANGES,
    "details": document(
        "What else the recorded event says, of those whose reason or content the object does not show.",
        {"failing_since": 1795000000, "failed_attempts": 12, "status": 503, "error": None},
    ),
    "events": array("The public Events that it made.", hash_of("An Event.", _PUBLIC_EVENT)),
}
_LOG_ENTRY: Fields = {
    "position": _POSITION,
    "time": iso_time("When it was recorded."),
    "stream": text("The object that changed.", "du_1MtJUT2eZvKYlo2CNaw2HvEv"),
    "version": integer("Version of the object.", 2),
    "type": text("Type of the recorded event.", "dispute.evidence_staged"),
    "object_type": nullable_text("Type of the object; null if this release cannot read it.", "dispute"),
    "actor": _ACTOR,
    **_REQUEST,
    "customer": nullable_text("The customer that it is about."),
    "charge": nullable_text("The charge that it is about."),
    "payment_intent": nullable_text("The payment intent that it is about."),
    "events": array("The public Events that it made.", hash_of("An Event.", _PUBLIC_EVENT)).or_null(),
}
_RECORDED_EVENT: Fields = {
    **_LOG_ENTRY,
    "account": text("Its account.", "acct_1Nv0FGQ9RKHgCVdK"),
    "livemode": livemode(),
    "class_version": integer("Version of its class as it was stored.", 1).or_null(),
    "data": document("Its fields.").or_null(),
    "withheld": array("Fields with personal data that are not shown.", text("A field.", "email")),
    "redaction": _REDACTION,
    "unreadable": nullable_text("Why the record cannot be read."),
    "leaf_hash": _HASH,
}
_ACCESS: Fields = {
    "id": integer("Id of the access.", 17),
    "object": constant("audit_access"),
    "time": iso_time("When."),
    "actor": text("Id of the key, or `cli`.", "key_0352CZ3z1jWpJM7B8upbma"),
    "operator": nullable_text("Of a command: user@host."),
    "request": nullable_text("Id of the request.", "req_0352CZ3z1jWpJM7B8upbma"),
    "action": text("Method and route, or command.", "GET /internal/v1/audit/log"),
    "parameters": document("As they were sent; personal data as a keyed digest."),
    "object_id": nullable_text("The object that was looked at."),
    "allowed": boolean("Whether the key was allowed to.", example=True),
    "as_of": hash_of("The last position of the log at that time.", {"position": _POSITION}),
}
_SUMS: Fields = {
    "debits": amount("Sum of debits."),
    "credits": amount("Sum of credits."),
    "balance": amount("Debits less credits.", 0),
}
_UNREADABLE = array(
    "Records that are left out, because they cannot be read.",
    hash_of(
        "A record.",
        {
            "position": _POSITION,
            "object": text("Its object.", "ch_1"),
            "reason": text("Why.", "unknown_topic"),
        },
    ),
)
_POSTING: Fields = {
    "balance_transaction": text("The movement of money.", "txn_1MiN3gLkdIwHu7ixxapQrznl"),
    "source": text("The charge, refund or dispute.", "ch_3MmlLrLkdIwHu7ix0snN0B15"),
    "charge": text("The charge.", "ch_3MmlLrLkdIwHu7ix0snN0B15"),
    "dispute": nullable_text("The dispute."),
    "position": _POSITION,
    "ordinal": integer("Its number among the postings of the event.", 0),
    "ledger_account": choice("The account of the books.", LEDGER_ACCOUNTS),
    "currency": currency(),
    "side": choice("Which side.", ("debit", "credit")),
    "amount": amount("Always positive."),
    "stream": text("The object that changed.", "ch_3MmlLrLkdIwHu7ix0snN0B15"),
    "version": integer("Version of the object.", 1),
    "type": text("Type of the recorded event.", "charge.succeeded"),
    "time": iso_time("When it was recorded."),
    "actor": _ACTOR,
    **_REQUEST,
}
_CHECKPOINT = text(
    "A signed note: origin, number of records, root hash, signatures.", "ledger.example/log\n…"
)
_SIZE = integer("Records in the tree.", 40213)
_INCLUSION: Fields = {
    "position": _POSITION,
    "index": integer("Index of the leaf: position less one.", 40209),
    "size": _SIZE,
    "leaf_hash": _HASH,
    "hashes": array("The proof.", _HASH),
    "root": _HASH,
    "checkpoint": _CHECKPOINT.or_null(),
}
_CONSISTENCY: Fields = {
    "from": integer("Records in the older tree.", 40000),
    "to": _SIZE,
    "from_root": _HASH,
    "root": _HASH,
    "hashes": array("The proof.", _HASH),
    "from_checkpoint": _CHECKPOINT.or_null(),
    "checkpoint": _CHECKPOINT.or_null(),
}
_KEPT_CHECKPOINT: Fields = {
    "size": _SIZE,
    "checkpoint": _CHECKPOINT,
    "cosignatures": integer("Witnesses that have cosigned it.", 0),
    "created": unix_time("When it was made."),
}
_VERIFIER_KEY: Fields = {
    "id": text("Id of the key.", "logkey_0355J72soOFNZdP91qH3yc"),
    "algorithm": text("ed25519 or ml-dsa-44.", "ed25519"),
    "key": text("The verifier key, as in C2SP signed-note.", "ledger.example/log+12ab34cd+AT…"),
    "current": boolean("Whether it signs now.", example=True),
    "created": unix_time("When it was made."),
    "retired": unix_time("When it was retired.").or_null(),
    "reason": nullable_text("Why it was retired."),
}
_HIT: Fields = {
    "kind": choice("What the text is.", HIT_KINDS),
    "id": text("Id of what was found.", "ch_0352I2S0wXTRNVkqM8D9w9"),
    "type": nullable_text("Type of the object that it leads to.", "charge"),
    "title": text("A few words to tell it from others.", "succeeded"),
    "object_id": nullable_text("The object that it leads to.", "ch_0352I2S0wXTRNVkqM8D9w9"),
    "position": _POSITION.or_null(),
    "time": iso_time("When it was recorded or made.").or_null(),
}
_NOT_SEARCHED: Fields = {
    "kind": choice("The kind.", HIT_KINDS),
    "scope": text("The scope that the key lacks.", "personal_data"),
}
_DIFFERENCE: Fields = {
    "code": text("What kind of difference it is, for programs.", "event"),
    "message": text("What differs, in words.", "the event at position 812 is not the one that was sealed"),
    "after": integer("The first position that differs is after this one.", 811).or_null(),
    "upto": integer("The first position that differs is not after this one.", 812).or_null(),
}
_LOG_VERIFICATION: Fields = {
    "object": constant("log_verification"),
    "from": integer("The records after this position were compared.", 0),
    "to": integer("The last position that was compared.", 40213),
    "records": integer("How many records were compared.", 40213),
    "checkpoints": integer("Signed checkpoints that were compared.", 3),
    "size": _SIZE,
    "ok": boolean("Whether nothing differs.", example=True),
    "differences": array("What differs, by position.", hash_of("A difference.", _DIFFERENCE)),
    "next": integer("Where to go on: `from` of the next call; null at the end.", 65536).or_null(),
}
_WITNESS: Fields = {
    "id": text("Its name and the id of its key.", "witness.example/w1+12ab34cd"),
    "name": text("Its name.", "witness.example/w1"),
    "keys": array("Verifier keys of its cosignatures.", text("A key.", "witness.example/w1+12ab34cd+BA…")),
    "size": integer("Records in the last checkpoint that it cosigned; 0 for none.", 40213),
    "state": choice("How it answered last; `cosigns` also if it was not asked yet.", tuple(WitnessState)),
    "reason": nullable_text("Why it does not cosign; null while it does."),
    "behind_seconds": number("Age of the oldest checkpoint that it has not cosigned; 0 for none."),
}


def _make_sums(*, has_account: bool) -> Fields:
    account: dict[str, Field] = {"ledger_account": _POSTING["ledger_account"]} if has_account else {}
    return {**account, "currency": currency(), **_SUMS}


def _without_url(name: str) -> Fields:
    return {
        each: field for each, field in make_list_fields(component("An item.", name)).items() if each != "url"
    }


_VERSIONED = hash_of("The moment of which it is.", _VERSIONED_MOMENT)
_OBJECT_THEN = document("The object as the public API would have shown it.", {"object": "dispute"})
_BOUNDS: Fields = {
    "from": hash_of("The earlier moment.", _VERSIONED_MOMENT),
    "to": hash_of("The later moment.", _VERSIONED_MOMENT),
}
_OBJECTS: dict[str, tuple[str, Fields]] = {
    "past_object": (
        "An object as it was.",
        {"as_of": _VERSIONED, "redaction": _REDACTION, "object": _OBJECT_THEN},
    ),
    "object_difference": (
        "What differs between two moments.",
        {"as_of": hash_of("The moments.", _BOUNDS), "changes": _CHANGES},
    ),
    "object_change": ("A change of an object.", _HISTORY_ENTRY),
    "log_entry": ("A recorded event, without its content.", _LOG_ENTRY),
    "recorded_event": ("A recorded event, whole.", _RECORDED_EVENT),
    "audit_hit": ("Something that a text names.", _HIT),
    "audit_access": ("Somebody looked at something.", _ACCESS),
    "posting": ("A posting of the journal.", _POSTING),
    "inclusion_proof": ("That a record is in the log (RFC 6962).", _INCLUSION),
    "consistency_proof": ("That the log only grew (RFC 6962).", _CONSISTENCY),
    "kept_checkpoint": ("A checkpoint that is kept.", _KEPT_CHECKPOINT),
    "verifier_key": ("A key that verifies checkpoints.", _VERIFIER_KEY),
    "log_verification": ("A range of the log compared with its tree.", _LOG_VERIFICATION),
    "log_witness": ("A witness that cosigns checkpoints.", _WITNESS),
    "trial_balance": (
        "The books at a moment.",
        {
            "as_of": _AS_OF,
            "accounts": array(
                "By currency and account.", hash_of("An account.", _make_sums(has_account=True))
            ),
            "totals": array("By currency.", hash_of("A currency.", _make_sums(has_account=False))),
            "unreadable": _UNREADABLE,
        },
    ),
    "past_list": (
        "A list as it was.",
        {
            "as_of": _AS_OF,
            **make_list_fields(_OBJECT_THEN),
            "next_position": integer("Go on with `starting_after=position:N`.", 40210).or_missing(),
            "incomplete": boolean("Whether objects are missing that cannot be read.").or_missing(),
        },
    ),
    "object_change_list": (
        "A page of changes.",
        make_list_fields(component("A change.", "object_change")),
    ),
    "log_page": (
        "A page of recorded events.",
        {
            **make_list_fields(component("A recorded event.", "log_entry")),
            "next_position": _NEXT_POSITION.or_null(),
            "as_of": _AS_OF,
        },
    ),
    "audit_hit_list": (
        "What a text names.",
        {
            **make_list_fields(component("What was found.", "audit_hit")),
            "not_searched": array(
                "Kinds for which the key lacks a scope.", hash_of("A kind.", _NOT_SEARCHED)
            ),
            "behind_events": integer("So many events the lists searched lack.", 0),
        },
    ),
    "audit_access_list": ("A page of accesses.", _without_url("audit_access")),
    "journal_page": (
        "A page of postings.",
        {
            "as_of": _AS_OF,
            "data": array("The postings.", component("A posting.", "posting")),
            "has_more": boolean("Whether there are more after this page."),
            "next_position": _NEXT_POSITION.or_null(),
            "unreadable": _UNREADABLE,
        },
    ),
    "kept_checkpoint_list": ("A page.", make_list_fields(component("A checkpoint.", "kept_checkpoint"))),
    "log_witness_list": ("All witnesses.", make_list_fields(component("A witness.", "log_witness"))),
    "verifier_key_list": ("All keys.", make_list_fields(component("A key.", "verifier_key"))),
}


def build_audit_schemas() -> dict[str, Json]:
    """The schemas by name."""
    return {name: build_schema(description, fields) for name, (description, fields) in _OBJECTS.items()}
