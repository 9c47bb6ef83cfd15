"""Answers of the routes of erasures (internal API §11)."""

from __future__ import annotations

from ledger.wire.json_values import Json
from ledger.wire.schemas.catalog import build_schema, make_list_fields
from ledger.wire.schemas.fields import (
    Fields,
    array,
    component,
    constant,
    document,
    hash_of,
    integer,
    livemode,
    number,
    text,
    unix_time,
)

_STEP: Fields = {
    "position": integer("Position of its record in the log.", 80230),
    "time": number("When it was recorded, in unix seconds.", 1795000000.25),
}
_ERASURE: Fields = {
    "object": constant("erasure"),
    "id": text("Id of its redaction job.", "prj_0352CZ3z1jWpJM7B8upbma"),
    "account": text("Its account.", "acct_1Nv0FGQ9RKHgCVdK"),
    "livemode": livemode(),
    "subjects": array("Whose data keys it destroyed first.", text("An id.", "cus_9s6XKzkNRiz8i3")),
    "requested": hash_of("The request.", _STEP),
    "completed": hash_of("The completion.", _STEP),
    "data_keys_destroyed": integer("How many data keys were destroyed.", 1),
    "streams": integer("How many objects lost their personal data.", 41),
    "streams_digest": text(
        "SHA-256 of their ids, sorted, each with a newline, in base64.",
        "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
    ),
    "counts": document("How much was reached, by the place where it is.", {"feed": 311, "replies": 4}),
    "not_reached": array("What could not be changed.", text("One thing.", None)),
    "certificate": text("Where its certificate is.", "/internal/v1/erasures/prj_1/certificate"),
    "certified": unix_time("When the certificate was made."),
}


def build_erasure_schemas() -> dict[str, Json]:
    """The schemas by name."""
    return {
        "erasure": build_schema("An erasure that is certified.", _ERASURE),
        "erasure_list": build_schema(
            "A page of erasures.", make_list_fields(component("An erasure.", "erasure"))
        ),
    }
