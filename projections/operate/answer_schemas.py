"""Answers of the operators' routes, for the OpenAPI document (internal API §3)."""

from __future__ import annotations

from ledger.wire.json_values import Json
from ledger.wire.schemas.catalog import build_schema
from ledger.wire.schemas.fields import (
    Fields,
    anything,
    array,
    boolean,
    choice,
    component,
    constant,
    document,
    hash_of,
    integer,
    nullable_text,
    number,
    text,
)
from projections.operate.stalls import STALL_CODES
from projections.operate.stepper.live_rows import LIVE_STATES
from projections.operate.stepper.step import STEP_CODES
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
_CAUSE: Fields = {
    "code": choice("What it is, for programs.", STALL_CODES, "no_worker"),
    "message": text("What it is, and what to do.", "No worker is running: start one with `ledger worker`."),
}
_VERIFIED: Fields = {
    "at": number("When, in unix seconds.", 1795000000.0),
    "position": _POSITION,
    "rows": integer("Rows compared then.", 3100),
    "differing": integer("Rows that differ, until a full verification finds none.", 0),
    "keys": array("The first rows that differ.", text("A row.", "du_1")),
}
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
    "cause": hash_of("Why it does not move.", _CAUSE).or_null(),
    "verified": hash_of("When it was compared with a replay last; null: never.", _VERIFIED).or_null(),
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
_WORKERS = integer("Processes of this release that follow the log.", 1)
_SERIES: Fields = {
    "name": text("A projection, `sealing` or `webhook fan-out`.", "disputes"),
    "events": array("How many events it was behind, by time.", integer("At one time.", 3).or_null()),
    "seconds": array(
        "Age of the oldest event it had not applied, by time.", number("At one time.", 0.4).or_null()
    ),
}
_LAG_SAMPLES: Fields = {
    "object": constant("lag_samples"),
    "step": integer("Seconds between two times.", 10),
    "times": array("Unix seconds, in order.", integer("A time.", 1795000000)),
    "series": array("By name.", hash_of("One follower of the log.", _SERIES)),
}
_OUTCOME: Fields = {
    "code": choice("What the projection makes of the event, for programs.", STEP_CODES, "applied"),
    "message": text("The same, for people.", "1 row changed."),
}
_CHANGE: Fields = {
    "key": text("The row.", "du_0352CZ5Gldsp6qNF5qNF1x"),
    "column": text("The column.", "state"),
    "path": text("Where in the row; in bracket form.", "state[status]"),
    "before": anything("The value before it.", "needs_response"),
    "after": anything("The value after it.", "under_review"),
    "personal_data": boolean("True where the values are withheld.", example=True).or_missing(),
}
_LIVE: Fields = {
    "state": choice("How the live rows compare.", LIVE_STATES, "equal"),
    "generation": _GENERATION.or_null(),
    "position": _POSITION.or_null(),
    "message": text("The same, for people.", "The live rows are equal."),
    "differences": array("Rows that differ.", document("A row, `live` and `expected` by path.", {})),
}
_SEARCHED: Fields = {"first": integer("First position.", 1), "last": integer("Last position.", 40213)}
_STEP_ROW = document("A row by column, `position` among them.", {"id": "du_1", "position": 40213})
_STEP: Fields = {
    "object": constant("projection_step"),
    "projection": _NAME,
    "stream": nullable_text("The object to which the steps are limited.", "du_0352CZ5Gldsp6qNF5qNF1x"),
    "head": integer("The last position of the log.", 40213),
    "position": integer("That of the event; null: none was found.", 40213).or_null(),
    "next": integer("The next event that it follows.", 40215).or_null(),
    "previous": integer("The one before.", 40210).or_null(),
    "searched": hash_of("Positions between which these were looked for.", _SEARCHED),
    "outcome": hash_of("What came of the event.", _OUTCOME),
    "event": document(
        "The event as `recorded_event`; of an account that the key does not reach, its place and type.", {}
    ).or_null(),
    "before": array("Rows of the object before it: those that change, and up to 20 others.", _STEP_ROW),
    "after": array("The same rows after it.", _STEP_ROW),
    "rows_before": integer("How many rows the object has before it.", 1),
    "rows_after": integer("How many after it.", 1),
    "changes": array(
        "Values that change.",
        hash_of("A value.", _CHANGE),
    ),
    "live": hash_of("The live rows.", _LIVE).or_null(),
}
_OBJECTS: dict[str, tuple[str, Fields]] = {
    "projection": ("A projection with its generations.", _STATUS),
    "projection_status": (
        "A projection, its rebuild, and what operators did to it.",
        {
            **_STATUS,
            "rebuild": component("The rebuild that has not ended.", "rebuild").or_null(),
            "operations": array("The latest 50, newest first.", hash_of("An operation.", _OPERATION)),
            "workers": _WORKERS,
        },
    ),
    "projection_list": (
        "All projections.",
        {
            "data": array("By name.", component("A projection.", "projection")),
            "rebuilds": array("Those that have not ended.", component("A rebuild.", "rebuild")),
            "workers": _WORKERS,
        },
    ),
    "rebuild": ("A rebuild of projections.", _REBUILD),
    "lag_samples": ("Lag over time.", _LAG_SAMPLES),
    "projection_step": ("One event through a projection.", _STEP),
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
