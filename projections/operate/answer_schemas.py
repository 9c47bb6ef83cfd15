"""Answers of the operators' routes, for the OpenAPI document (internal API §3)."""

from __future__ import annotations

from ledger.wire.json_values import Json
from ledger.wire.schemas.catalog import build_schema
from ledger.wire.schemas.fields import (
    Fields,
    array,
    boolean,
    choice,
    component,
    document,
    hash_of,
    integer,
    nullable_text,
    number,
    text,
)
from projections.rebuild.states import RebuildState

_NAME = text("The projection.", "disputes")
_GENERATION = integer("Number of the generation.", 2)
_POSITION = integer("Position in the log.", 40213)
_PARKED: Fields = {
    "stream": text("The object.", "du_0352CZ5Gldsp6qNF5qNF1x"),
    "position": integer("Position of its first event that was not applied.", 31077),
    "error": text("Why.", "unknown_topic: version 3, topic dispute.reopened"),
    "topic": nullable_text("Type of that event.", "dispute.reopened"),
    "reason": nullable_text("Why, for programs.", "unknown_topic"),
}
_LEFT_OUT: Fields = {name: _PARKED[name] for name in ("stream", "position", "topic", "reason")}
_PROJECTION_GENERATION: Fields = {
    "projection": _NAME,
    "generation": _GENERATION,
    "live": boolean("Whether readers see it.", example=True),
    "position": integer("The last position applied.", 40210),
    "events": integer("How many events are not applied yet.", 3),
    "seconds": number("Age of the oldest event not applied; 0 when there is none.", 0.4),
    "parked": array("Streams whose events could not be applied.", hash_of("A stream.", _PARKED)),
    "differing": integer("Rows that verification found to differ from a replay.", 0),
    "state": text("live, kept, building or such.", "live"),
    "stands_still": boolean("Whether it is behind and not moving."),
}
_STATUS: Fields = {
    "name": _NAME,
    "live": integer("The live generation.", 1).or_null(),
    "incomplete": boolean("Whether readers may miss objects."),
    "generations": array("Its generations.", hash_of("A generation.", _PROJECTION_GENERATION)),
}
_BUILD: Fields = {
    "projection": _NAME,
    "generation": _GENERATION,
    "shape": integer("Version of its columns.", 1),
    "attached": boolean("Whether it catches up with the log already."),
}
_VIEW: Fields = {
    "name": _NAME,
    "number": integer("Its number.", 1),
    "of": integer("How many there are.", 2),
}
_REBUILD: Fields = {
    "id": integer("Number of the rebuild.", 3),
    "state": choice("How far it is.", tuple(RebuildState), RebuildState.BACKFILLING),
    "paused": boolean("Whether it is paused."),
    "error": nullable_text("Why it paused by itself, or could not be compared."),
    "workers": integer("Backfill processes.", 2),
    "accept_differences": boolean("Whether it is promoted even if rows differ."),
    "upto": integer("Head of the log when it began.", 40213),
    "total": integer("Events to backfill; null until they are counted.", 40213).or_null(),
    "who": text("Who began it: a key, or a shell's user@host.", "key_0352CZ3z1jWpJM7B8upbma"),
    "reason": text("Why.", "a column was added"),
    "began_at": number("When it began, in unix seconds.", 1795000000.0),
    "seconds": number("Seconds since then.", 2.5),
    "events": integer("Events backfilled so far.", 16000),
    "rows": integer("Rows backfilled so far.", 3100),
    "behind": integer("Events that the generation furthest behind lacks.").or_null(),
    "compared": integer("Projections compared so far.", 0),
    "driven": boolean("Whether a process is driving it.", example=True),
    "builds": array("What it builds.", hash_of("A generation.", _BUILD)),
    "bytes": integer("Size of the new generations.", 4194304).or_null(),
    "events_per_second": number("Rate of its backfill.", 6400.0),
    "seconds_left": number("Until the backfill is done.", 3.8).or_null(),
    "view": hash_of("The projection being indexed or compared.", _VIEW).or_null(),
}
_OPERATION: Fields = {
    "at": text("When.", "2026-11-18T11:06:40Z"),
    "who": text("A key, or a shell's user@host.", "key_0352CZ3z1jWpJM7B8upbma"),
    "action": text("What was done.", "rebuild"),
    "generation": integer("On which generation.", 2).or_null(),
    "position": integer("At which position.", 40213).or_null(),
    "reason": text("Why.", "a column was added"),
    "details": document("What else is on record.", {"rebuild": 3, "workers": 2}),
}
_VERIFICATION: Fields = {
    "projection": _NAME,
    "generation": _GENERATION.or_null(),
    "position": _POSITION.or_null(),
    "rows": integer("Rows compared.", 3100),
    "differing": integer("Rows that differ from a replay of the log.", 0),
    "parked": integer("Parked streams, compared as of where they were parked.", 0),
    "digest": nullable_text("Digest of all rows, of a full check."),
    "error": nullable_text("Why it could not be verified."),
    "keys": array("The first rows that differ.", text("A row.", "du_1")),
    "parked_streams": document("Position by parked stream.", {}),
    "left_out": array("Streams that cannot be compared.", hash_of("A stream.", _LEFT_OUT)),
}
_RETRY: Fields = {
    "projection": _NAME,
    "stream": text("The object.", "du_0352CZ5Gldsp6qNF5qNF1x"),
    "healed": boolean("Whether all its events are applied.", example=True),
    "left_out_of": array("Generations in which it is still parked.", _GENERATION),
}
_OBJECTS: dict[str, tuple[str, Fields]] = {
    "projection": ("A projection with its generations.", _STATUS),
    "projection_status": (
        "A projection, its rebuild, and what operators did to it.",
        {
            **_STATUS,
            "rebuild": component("The rebuild that has not ended.", "rebuild").or_null(),
            "operations": array("The latest 50, newest first.", hash_of("An operation.", _OPERATION)),
        },
    ),
    "projection_list": (
        "All projections.",
        {
            "data": array("By name.", component("A projection.", "projection")),
            "rebuilds": array("Those that have not ended.", component("A rebuild.", "rebuild")),
        },
    ),
    "rebuild": ("A rebuild of projections.", _REBUILD),
    "projection_verification": ("How live rows compare with a replay of the log.", _VERIFICATION),
    "projection_verification_list": (
        "Several verifications.",
        {"data": array("By projection.", component("One of them.", "projection_verification"))},
    ),
    "parked_stream_retry": ("What came of a retry.", _RETRY),
}


def build_schemas() -> dict[str, Json]:
    """The schemas by name."""
    differences = build_schema(
        "How a rebuild differed.", {"at": text("When it was compared.", "2026-11-18T11:06:40Z")}
    )
    return {
        **{name: build_schema(description, fields) for name, (description, fields) in _OBJECTS.items()},
        "rebuild_differences": {**differences, "additionalProperties": True},
    }
