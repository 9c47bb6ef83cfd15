"""Commands on files and file links (contract §2.9), and which files may be evidence (§2.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ledger.call import Call
from ledger.commands.execution import Decision, DecisionContext, apply_and_render, overlay_changes
from ledger.domain import evidence, file, file_link
from ledger.domain.event import DomainEvent
from ledger.domain.file import File
from ledger.domain.file_link import FileLink
from ledger.files.storage import Upload
from ledger.objects import expand, get_param, get_target, render_object
from ledger.store.codec import State
from ledger.store.journal import fold_changes


async def upload(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v1/files`; the bytes are stored already."""
    params, part = call.parameters, call.parameters["file"]
    assert isinstance(part, Upload)
    events = file.upload(
        file_id=part.file_id,
        account=call.account,
        livemode=call.livemode,
        purpose=params["purpose"],
        filename=part.filename,
        size=part.size,
        type=part.type,
        digest=part.digest,
        pages=part.pages,
        now=now,
    )
    state = file.evolve(None, events[0])
    link_data = params.get("file_link_data")
    if link_data and link_data["create"]:
        events += file_link.create(
            state,
            link_data,
            link_id=context.new_id("link"),
            now=now,
            param="file_link_data[create]",
            expires_param="file_link_data[expires_at]",
        )
    return await _apply_and_render(call, context, now, state.id, events)


async def create_link(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v1/file_links`"""
    params = call.parameters
    state = await get_param(call, File, "file", params["file"], context.get)
    link_id = context.new_id("link")
    events = file_link.create(
        state, params, link_id=link_id, now=now, param="file", expires_param="expires_at"
    )
    return await _apply_and_render(call, context, now, link_id, events, state)


async def update_link(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v1/file_links/{id}`"""
    state = await get_target(call, FileLink, context.get)
    return await apply_and_render(
        call, context, now, state, file_link.update(state, call.parameters, now=now)
    )


async def get_evidence_sizes(
    call: Call, context: DecisionContext, staged: Mapping[str, Any], new_evidence: Mapping[str, Any]
) -> dict[str, int]:
    """Bytes by id of the files in staged and given evidence; {} where no file is given.

    Raises UnknownReference for a given file that is not there, InvalidState for one that may not be evidence.
    """
    sizes: dict[str, int] = {}
    for param, file_id in evidence.list_files(new_evidence):
        state = await get_param(call, File, param, file_id, context.get)
        file.check_usable_as_evidence(state, param)
        sizes[file_id] = state.size
    if evidence.FILE_FIELDS.isdisjoint(new_evidence) and "appeal" not in new_evidence:
        return sizes
    for param, file_id in evidence.list_files(staged):
        sizes[file_id] = (await get_param(call, File, param, file_id, context.get)).size
    return sizes


async def _apply_and_render(
    call: Call,
    context: DecisionContext,
    now: int,
    target_id: str,
    events: list[DomainEvent],
    *before: State,
) -> Decision:
    """Applies `events` on the streams of a file and a link to `before`; answers with the object
    `target_id`."""
    changes = fold_changes(events, *before)
    target = next(change.state for change in reversed(changes) if change.state.id == target_id)
    answer = render_object(target, now)
    await expand(target, answer, call.expand, now, overlay_changes(context, changes))
    return Decision(changes, answer)
