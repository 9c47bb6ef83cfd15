"""The Merkle tree over HTTP: checkpoints, keys and tiles as C2SP lays them out, proofs, and verification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import PlainTextResponse, Response

from ledger.api.exchange import Exchange
from ledger.api.internal.audit.auditors import get_auditor
from ledger.api.internal.callers import Callers
from ledger.api.openapi.answers import answers_with
from ledger.audit.moments import POSITION_MAX
from ledger.audit.tree.proofs import (
    list_checkpoints,
    list_verifier_keys,
    read_checkpoint,
    read_consistency,
    read_inclusion,
    read_proof_file,
    read_tile_file,
)
from ledger.audit.tree.verification import RangeVerifier
from ledger.audit.tree.witnesses import list_witnesses
from ledger.queries.context import QueryContext
from ledger.tlog.proof_files import FILE_SUFFIX
from ledger.tree.witnesses.addresses import WitnessAddress

_MUTABLE = {"cache-control": "no-cache"}
# What has this path never changes. Private: the answer is for a key with the scope.
_IMMUTABLE = {"cache-control": "private, max-age=31536000, immutable"}
_NOTE = {"content": {"text/plain": {"schema": {"type": "string"}}}}
_BYTES = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}

Position = Annotated[int, Query(ge=1, le=POSITION_MAX, examples=[40210])]
Size = Annotated[int | None, Query(ge=1, le=POSITION_MAX, description="Records in the tree; default: all.")]


def tree_routes(callers: Callers, queries: QueryContext, witnesses: Sequence[WitnessAddress]) -> APIRouter:
    """Hashes are in standard base64, as in C2SP's formats. The leaf of the record at position P is P - 1."""
    router = APIRouter()
    audit_scope = callers.require_scopes("audit")
    _add_checkpoint_routes(router, queries, audit_scope)
    _add_tile_routes(router, queries, audit_scope)
    _add_proof_routes(router, queries, audit_scope)
    _add_verification_routes(router, queries, audit_scope, witnesses)
    return router


def _add_checkpoint_routes(router: APIRouter, queries: QueryContext, audit_scope: Any) -> None:
    @router.get(
        "/checkpoint",
        summary="The newest signed checkpoint",
        response_class=PlainTextResponse,
        responses={200: _NOTE},
        dependencies=[audit_scope],
    )
    async def get_checkpoint(
        size: Annotated[
            int | None, Query(ge=0, le=POSITION_MAX, description="One that is kept: its size.")
        ] = None,
        cosigned: Annotated[bool, Query(description="The newest that a witness has cosigned.")] = False,
    ) -> Response:
        """A signed note (C2SP tlog-checkpoint): origin, number of records, root hash, and signatures."""
        return PlainTextResponse(await read_checkpoint(queries, size, cosigned=cosigned), headers=_MUTABLE)

    @router.get(
        "/checkpoints",
        summary="The checkpoints that are kept",
        responses=answers_with("kept_checkpoint_list"),
        dependencies=[audit_scope],
    )
    async def list_kept_checkpoints(
        limit: Annotated[int, Query(ge=1, le=100)] = 10,
        starting_after: Annotated[
            int | None,
            Query(ge=0, le=POSITION_MAX, description="A size: return checkpoints of smaller trees."),
        ] = None,
    ) -> dict[str, Any]:
        """Newest first, each with its size, its note, and the number of witnesses that have cosigned it."""
        return await list_checkpoints(queries, starting_after=starting_after, limit=limit)

    @router.get(
        "/keys",
        summary="The keys that verify checkpoints",
        responses=answers_with("verifier_key_list"),
        dependencies=[audit_scope],
    )
    async def list_log_keys() -> dict[str, Any]:
        """Current and retired, the newest first; `key` is a verifier key as in C2SP signed-note."""
        return await list_verifier_keys(queries)


def _add_tile_routes(router: APIRouter, queries: QueryContext, audit_scope: Any) -> None:
    @router.get(
        "/tile/{path:path}",
        summary="A tile of hashes, or a bundle of entries",
        response_class=Response,
        responses={200: _BYTES},
        dependencies=[audit_scope],
    )
    async def get_tile(
        path: Annotated[
            str, Path(max_length=100, examples=["0/x001/234", "entries/000"], description="C2SP tlog-tiles.")
        ],
    ) -> Response:
        """`<level>/<number>`, or `entries/<number>`; `.p/<width>` at the end asks for the first `width` only.
        An entry is the SHA-256 hash of a record's canonical form."""
        content = await read_tile_file(queries, f"tile/{path}")
        return Response(content, media_type="application/octet-stream", headers=_IMMUTABLE)


def _add_proof_routes(router: APIRouter, queries: QueryContext, audit_scope: Any) -> None:
    @router.get(
        "/proof/inclusion",
        summary="Prove that a record is in the log",
        responses=answers_with("inclusion_proof"),
    )
    async def prove_inclusion(
        position: Position | None = None,
        event: Annotated[
            str | None, Query(max_length=255, description="A public Event that the record made.")
        ] = None,
        size: Size = None,
        exchange: Exchange = audit_scope,
    ) -> dict[str, Any]:
        """RFC 6962, section 2.1.1. `checkpoint` is a signed one of this size, null when none is kept."""
        auditor = get_auditor(exchange)
        return await read_inclusion(queries, auditor, position=position, event_id=event, size=size)

    @router.get(
        "/proof/consistency",
        summary="Prove that the log only grew",
        responses=answers_with("consistency_proof"),
        dependencies=[audit_scope],
    )
    async def prove_consistency(
        old_size: Annotated[
            int, Query(alias="from", ge=0, le=POSITION_MAX, description="Records in the older tree.")
        ],
        size: Annotated[
            int | None,
            Query(alias="to", ge=0, le=POSITION_MAX, description="Records in the newer tree; default: all."),
        ] = None,
    ) -> dict[str, Any]:
        """RFC 6962, section 2.1.2."""
        return await read_consistency(queries, old_size, size)

    @router.get(
        f"/proof/{{id}}{FILE_SUFFIX}",
        summary="A proof file that is verified offline",
        response_class=PlainTextResponse,
        responses={200: _NOTE},
    )
    async def get_proof_file(
        subject: Annotated[
            str,
            Path(alias="id", max_length=255, description="A position, or the id of a public Event."),
        ],
        exchange: Exchange = audit_scope,
    ) -> Response:
        """C2SP tlog-proof, in the newest checkpoint that a witness cosigned, else in the newest one. Its
        extra data is the record itself, in its canonical form."""
        return PlainTextResponse(await read_proof_file(queries, get_auditor(exchange), subject))


def _add_verification_routes(
    router: APIRouter, queries: QueryContext, audit_scope: Any, witnesses: Sequence[WitnessAddress]
) -> None:
    verifier = RangeVerifier(queries)

    @router.get(
        "/verify",
        summary="Compare a range of the log with its tree",
        responses=answers_with("log_verification"),
        dependencies=[audit_scope],
    )
    async def verify_log_range(
        begin: Annotated[
            int,
            Query(alias="from", ge=0, le=POSITION_MAX, description="Records before it: a multiple of 256."),
        ] = 0,
        end: Annotated[
            int | None,
            Query(alias="to", ge=0, le=POSITION_MAX, description="Its last position; default: all sealed."),
        ] = None,
    ) -> dict[str, Any]:
        """Hashes the records after position `from` again, and compares them with the stored tree, the kept
        checkpoints and the newest one. It takes about a second, and at most 65,536 records: `next` is the
        `from` of the next call, null at the end. The whole log is verified, of all accounts; the answer has
        positions, and no content."""
        return await verifier.verify(begin, end)

    @router.get(
        "/witnesses",
        summary="Who cosigns the checkpoints",
        responses=answers_with("log_witness_list"),
        dependencies=[audit_scope],
    )
    async def list_log_witnesses() -> dict[str, Any]:
        """How far each has cosigned, how it answered last, and the keys that verify its cosignatures."""
        return await queries.pool.run_idempotent(lambda conn: list_witnesses(conn, witnesses))
