"""Commands on files and file links (contract §2.9), and the files that disputes take as evidence (§2.2).

The URL of a link contains a secret, and an answer shows at most one: that of the link it created or updated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ledger.call import Call
from ledger.commands.context import DecisionContext
from ledger.commands.execution import Decision, apply_and_render, render_changed
from ledger.commands.usable_objects import get_usable, get_usable_param
from ledger.domain import evidence, file, file_link
from ledger.domain.file import File
from ledger.domain.file_link import FileLink
from ledger.files.storage import Upload
from ledger.objects import get_param
from ledger.store.journal import Change, fold_changes
from ledger.wire.files import build_link_url


async def upload(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v1/files`. The contents are stored before this runs."""
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
    changes = fold_changes(events)
    state = changes[-1].state
    assert isinstance(state, File)
    link_data = params.get("file_link_data")
    if not link_data or not link_data["create"]:
        return Decision(changes, await render_changed(call, context, now, state, changes))
    changes += _create_link(
        state,
        link_data,
        context,
        now,
        param="file_link_data[create]",
        expires_param="file_link_data[expires_at]",
    )
    answer = await render_changed(call, context, now, changes[-1].state, changes)
    (link,) = answer["links"]["data"]
    return _show_link_url(call, context, changes, answer, link)


async def create_link(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v1/file_links`"""
    params = call.parameters
    state = await get_usable_param(call, File, "file", params["file"], context.get)
    changes = _create_link(state, params, context, now, param="file", expires_param="expires_at")
    answer = await render_changed(call, context, now, changes[0].state, changes)
    return _show_link_url(call, context, changes, answer, answer)


async def update_link(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v1/file_links/{id}`"""
    state = await get_usable(call, FileLink, context.get)
    events = file_link.update(state, call.parameters, now=now)
    decision = await apply_and_render(call, context, now, state, events)
    answer = dict(decision.answer)
    return _show_link_url(call, context, decision.changes, answer, answer)


async def get_evidence_sizes(
    call: Call, context: DecisionContext, staged: Mapping[str, Any], new_evidence: Mapping[str, Any]
) -> dict[str, int]:
    """Sizes in bytes, by id, of the files in the staged and the new evidence; {} if the new evidence has no
    files.

    Raises UnknownReference for a new file that does not exist, InvalidState for one that cannot be evidence.
    """
    sizes: dict[str, int] = {}
    for param, file_id in evidence.list_files(new_evidence):
        state = await get_usable_param(call, File, param, file_id, context.get)
        file.check_usable_as_evidence(state, param)
        sizes[file_id] = state.size
    if evidence.FILE_FIELDS.isdisjoint(new_evidence) and "appeal" not in new_evidence:
        return sizes
    for param, file_id in evidence.list_files(staged):
        sizes[file_id] = (await get_param(call, File, param, file_id, context.get)).size
    return sizes


def _create_link(
    state: File,
    params: Mapping[str, Any],
    context: DecisionContext,
    now: int,
    *,
    param: str,
    expires_param: str,
) -> list[Change]:
    """The change that creates a link to the file, then the file's FileLinked. Raises what `file_link.create`
    raises."""
    events = file_link.create(
        state, params, link_id=context.new_id("link"), now=now, param=param, expires_param=expires_param
    )
    return fold_changes(events, state)


def _show_link_url(
    call: Call,
    context: DecisionContext,
    changes: Sequence[Change],
    answer: dict[str, Any],
    link: dict[str, Any],
) -> Decision:
    """Set the URL of `link`, which is `answer` or a part of it. The digits in the URL are the answer's
    secret, so they are not in a stored reply (README, invariant 7)."""
    digits = context.environment.link_urls.derive_digits(link["id"])
    link["url"] = build_link_url(call.base_url, link["id"], digits)
    return Decision(changes, answer, secret=digits, secret_of=link["id"])
