"""Reads the lines of an import: NDJSON bytes to lines, a line to the command that ingests it."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from typing import Annotated, Any, NamedTuple, Union, get_args

from pydantic import Field, TypeAdapter, ValidationError

from ledger.commands import external_facts, reported_actions
from ledger.commands.body_errors import choose_error, invalid_json_error, validation_error
from ledger.commands.execution import Decide
from ledger.commands.external_facts import answer_with_summary
from ledger.commands.imports.models import ImportLine
from ledger.domain import webhook_endpoint_quota
from ledger.errors import InvalidParameter
from ledger.ids import parse_id_time
from ledger.wire.suggestions import find_nearest, list_alternatives

LINE_BYTES_MAX = 1_048_576
FILE_LINE_BYTES_MAX = 24 * 1_048_576
"""For a file: in base64 one of LEDGER_FILE_BYTES_MAX's default is 22,400,000 bytes."""

_LINE_ADAPTER: TypeAdapter[ImportLine] = TypeAdapter(Annotated[ImportLine, Field(discriminator="op")])
_COMMANDS: Mapping[str, Decide] = {
    "charge": answer_with_summary(external_facts.ingest_charge),
    "customer": answer_with_summary(external_facts.ingest_customer),
    "deletion": answer_with_summary(reported_actions.ingest_deletion),
    "dispute": answer_with_summary(external_facts.ingest_dispute),
    "event": answer_with_summary(external_facts.ingest_event),
    "fact": answer_with_summary(external_facts.ingest_dispute_fact),
    "file": answer_with_summary(external_facts.ingest_file),
    "refund": answer_with_summary(external_facts.ingest_refund),
    "resource": reported_actions.import_resource,
    "response": answer_with_summary(reported_actions.ingest_response),
    "webhook_endpoint": answer_with_summary(external_facts.ingest_webhook_endpoint),
}


class LineCommand(NamedTuple):
    """How to ingest a line.

    decide       the command
    target       the id of the dispute of a fact; "" for a line that is an object itself
    parameters   of the command
    created_id   the id of the object that the line creates, if it was not ingested before
    related_ids  ids of other objects that the command reads or writes
    account      the account that the line belongs to; None for the account of the import
    """

    decide: Decide
    target: str
    parameters: dict[str, Any]
    created_id: str | None
    related_ids: tuple[str, ...] = ()
    account: str | None = None


def parse_line(line: bytes | None, *, account: str, livemode: bool) -> LineCommand:
    """The command for a line of an import into `account`; None stands for a line that is too long.

    Raises InvalidParameter for a line that is too long, not JSON, or not as its model declares.
    """
    if line is None:
        raise InvalidParameter(f"The line is longer than {FILE_LINE_BYTES_MAX} bytes.")
    try:
        model = _LINE_ADAPTER.validate_json(line)
    except ValidationError as error:
        first_error = choose_error(error.errors(include_url=False))
        _check_length(line, *first_error["loc"][:1])
        raise _explain(first_error) from None
    _check_length(line, model.op)
    params = model.to_params()
    del params["op"]
    decide = _COMMANDS[model.op]
    match model.op:
        case "customer":
            return LineCommand(decide, "", params, model.id)
        case "charge":
            return LineCommand(
                decide, "", params, model.id, () if model.customer is None else (model.customer,)
            )
        case "dispute" | "refund":
            return LineCommand(decide, "", params, model.id, (model.charge,))
        case "fact" | "response":
            return LineCommand(decide, params.pop("dispute"), params, None, (model.dispute,))
        case "deletion":
            return LineCommand(decide, params.pop("customer"), params, None, (model.customer,))
        case "resource":
            del params["id"]
            params.pop("account", None)
            return LineCommand(decide, model.id, params, None, (model.id,), model.account)
        case "event":
            return LineCommand(
                decide, "", params, model.id, _find_subject(model.id, model.object), model.account
            )
        case "file":
            return LineCommand(decide, "", params, None, (model.id,))
        case "webhook_endpoint":
            quota_stream = webhook_endpoint_quota.get_stream_id(account, livemode)
            return LineCommand(decide, "", params, model.id, (quota_stream,))


def _check_length(line: bytes, *kind: str | int) -> None:
    """Raises InvalidParameter for a line that only a file may be as long as."""
    if len(line) > LINE_BYTES_MAX and kind != ("file",):
        raise InvalidParameter(f"The line is longer than {LINE_BYTES_MAX} bytes.")


def _explain(error: Mapping[str, Any]) -> InvalidParameter:
    """The refusal of a line for one of pydantic's errors. It names the kinds of line there are, and the
    member that was probably meant by one that there is not."""
    kinds = list(_COMMANDS)
    match error["type"]:
        case "json_invalid":
            return invalid_json_error("line")
        case "union_tag_not_found" if isinstance(error["input"], Mapping):
            text = f"Missing required param: op. It must be one of {list_alternatives('', kinds)}."
            return InvalidParameter(text, code="parameter_missing", param="op")
        case "union_tag_invalid":
            op = error["ctx"]["tag"]
            nearest = find_nearest(op, kinds)
            hint = f" Did you mean {nearest}?" if nearest else ""
            text = f"Invalid op: must be one of {list_alternatives(op, kinds)}.{hint}"
            return InvalidParameter(text, param="op")
        case "extra_forbidden":
            return validation_error(error, skip=1, model=_find_model(error["loc"][0]))
    return validation_error(error, skip=1 if error["loc"] else 0)


def _find_model(kind: str) -> Any:
    """What a line of this kind is checked against: a model, or several."""
    models = [
        model for model in get_args(ImportLine) if kind in get_args(model.model_fields["op"].annotation)
    ]
    return Union[tuple(models)]  # noqa: UP007  # of a list that is known when it runs


def _find_subject(event_id: str, shown_object: Mapping[str, Any]) -> tuple[str, ...]:
    """The id of the object that an Event shows, if the Event's own id has the form of ids derived here: only
    then is it compared with the Events of that object."""
    object_id = shown_object.get("id")
    return (object_id,) if isinstance(object_id, str) and parse_id_time(event_id) is not None else ()


async def split_lines(chunks: AsyncIterable[bytes]) -> AsyncIterator[list[tuple[int, bytes | None]]]:
    """The lines of an input with their numbers, from 1, as many at a time as a chunk completes. Blank lines
    are skipped but numbered; a line over FILE_LINE_BYTES_MAX is None. A byte order mark before the first is
    skipped."""
    number, too_long = 0, False
    parts: list[bytes] = []  # of the line whose end is still to come: joined once, however many they are
    async for chunk in _skip_mark(chunks):
        head, line_feed, tail = chunk.rpartition(b"\n")
        if line_feed:
            lines: list[tuple[int, bytes | None]] = []
            for line in b"".join([*parts, head]).split(b"\n"):
                number += 1
                if too_long or len(line) > FILE_LINE_BYTES_MAX:
                    too_long = False
                    lines.append((number, None))
                elif line.strip():
                    lines.append((number, line))
            if lines:
                yield lines
            parts = []
        parts.append(tail)
        if sum(map(len, parts)) > FILE_LINE_BYTES_MAX:
            parts, too_long = [], True
    rest = b"".join(parts)
    if too_long or rest.strip():
        yield [(number + 1, None if too_long else rest)]


async def _skip_mark(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The chunks without a byte order mark at the start, over which the first ones may be spread."""
    start, at_start = b"", True
    async for chunk in chunks:
        if at_start:
            start += chunk
            if len(start) < len(BOM_UTF8) and BOM_UTF8.startswith(start):
                continue
            chunk, at_start = start.removeprefix(BOM_UTF8), False
        yield chunk
    if at_start:
        yield start
