"""Commands on files and file links (CONTRACT 2.9), and which files may be evidence (2.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ledger.call import Call
from ledger.commands.execution import Decided, Reading, answering
from ledger.domain import evidence, file, file_link
from ledger.domain.event import DomainEvent
from ledger.domain.file import File
from ledger.domain.file_link import FileLink
from ledger.files.storage import Upload
from ledger.objects import addressed, expanded, named, shown
from ledger.store.codec import State, evolve
from ledger.store.journal import Change


async def upload(call: Call, reading: Reading, now: int) -> Decided:
    """`POST /v1/files`; the bytes are stored already."""
    given, part = call.parameters, call.parameters["file"]
    assert isinstance(part, Upload)
    events = file.upload(
        file_id=part.file_id,
        account=call.account,
        livemode=call.livemode,
        purpose=given["purpose"],
        filename=part.filename,
        size=part.size,
        type=part.type,
        digest=part.digest,
        pages=part.pages,
        now=now,
    )
    state = file.evolve(None, events[0])
    link = given.get("file_link_data")
    if link and link["create"]:
        events += file_link.create(
            state,
            link,
            link_id=reading.new_id("link"),
            now=now,
            param="file_link_data[create]",
            expires_param="file_link_data[expires_at]",
        )
    return await _answering(call, reading, now, state.id, {}, events)


async def link(call: Call, reading: Reading, now: int) -> Decided:
    """`POST /v1/file_links`"""
    given = call.parameters
    state = await named(call, File, "file", given["file"], reading.state)
    link_id = reading.new_id("link")
    events = file_link.create(
        state, given, link_id=link_id, now=now, param="file", expires_param="expires_at"
    )
    return await _answering(call, reading, now, link_id, {state.id: state}, events)


async def update_link(call: Call, reading: Reading, now: int) -> Decided:
    """`POST /v1/file_links/{id}`"""
    state = await addressed(call, FileLink, reading.state)
    return await answering(call, reading, now, state, file_link.update(state, call.parameters, now=now))


async def sizes_of_evidence(
    call: Call, reading: Reading, staged: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, int]:
    """Bytes by id of the files in staged and given evidence; {} where no file is given.

    Raises UnknownReference for a given file that is not there, StateForbids for one that may not be evidence.
    """
    sizes: dict[str, int] = {}
    for param, file_id in evidence.files(given):
        state = await named(call, File, param, file_id, reading.state)
        file.check_evidence(state, param)
        sizes[file_id] = state.size
    if evidence.FILES.isdisjoint(given) and "appeal" not in given:
        return sizes
    for param, file_id in evidence.files(staged):
        sizes[file_id] = (await named(call, File, param, file_id, reading.state)).size
    return sizes


async def _answering(
    call: Call,
    reading: Reading,
    now: int,
    about: str,
    states: dict[str, State],
    events: list[DomainEvent],
) -> Decided:
    """`events` on a file's and a link's stream, answered with the object `about` as it then is."""
    changes = []
    for event in events:
        after = states[event.originator_id] = evolve(states.get(event.originator_id), event)
        changes.append(Change(event, after))

    async def fetch(stream: str) -> State | None:
        return states.get(stream) or await reading.state(stream)

    answer = shown(states[about], now)
    await expanded(states[about], answer, call.expand, now, fetch)
    return Decided(changes, answer)
