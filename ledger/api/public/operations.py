"""Operations of the public API, and the table that finds the operation for a request's method and path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from ledger.call import Call
from ledger.commands.execution import Decide
from ledger.domain.file import File
from ledger.errors import UnknownRoute
from ledger.queries.context import QueryContext
from ledger.queries.pages import QueryResult
from ledger.wire.parameters import ParameterTable

SEARCH_SEGMENT = "search"
"""The segment in place of an id in the URLs of Stripe's searches, which are not served. No object has this
id."""

VERB_SEGMENTS_MAX = 2
"""How many segments of a path may follow its target: `…/{charge}/dispute/close`."""

Read = Callable[[Call, QueryContext], Awaitable[QueryResult]]
Download = Callable[[Call, QueryContext], Awaitable[File]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method and path, and the function that runs: one of `decide`, `read` and `download`.

    table       the parameters
    expandable  the object in the answer, or in its list: a key of `wire.expansion.EXPANDABLE_FIELDS`
    resource    the permission that a restricted key needs: `rak_<resource>_read` for GET, else
                `rak_<resource>_write`
    decide      a command
    read        a query, answered with JSON
    download    a query, answered with the contents of a file
    takes_file  whether a command has a multipart body, whose file is stored before the command runs
    open_to     a kind of key that front ends use: "pk" may call it, and no other kind may; "ek" may call it
                for its own customer, the target
    targets_account  whether the target is an account, which the key must reach
    """

    method: str
    path: str
    summary: str
    table: ParameterTable
    expandable: str
    resource: str
    decide: Decide | None = None
    read: Read | None = None
    download: Download | None = None
    takes_file: bool = False
    open_to: Literal["pk", "ek"] | None = None
    targets_account: bool = False

    @property
    def required_scope(self) -> str:
        """The permission that a restricted key needs (contract §1.2)."""
        return f"rak_{self.resource}_{'read' if self.method == 'GET' else 'write'}"

    @property
    def is_list(self) -> bool:
        """Whether the answer is a list that is paged by cursors."""
        return self.read is not None and "starting_after" in self.table.members


class RouteTable:
    """Operations by method and path; a path holds at most one `{…}` segment, the target."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._without_target: dict[tuple[str, str], Operation] = {}
        self._with_target: dict[tuple[str, str, str], Operation] = {}
        for operation in operations:
            prefix, brace, suffix = operation.path.partition("{")
            if brace:
                self._with_target[operation.method, prefix, suffix.partition("}")[2]] = operation
            else:
                self._without_target[operation.method, operation.path] = operation

    def accepts_key_in_query(self, method: str, path: str) -> bool:
        """Whether a publishable key may be given as `key=` in the query."""
        operation = self._without_target.get((method, path))
        return operation is not None and operation.open_to == "pk"

    def find(self, method: str, path: str) -> tuple[Operation, str]:
        """The operation and the target id in the path ('' where it has none). Raises UnknownRoute."""
        operation = self._without_target.get((method, path))
        if operation is not None:
            return operation, ""
        base, _, target = path.rpartition("/")
        operation, verb = self._with_target.get((method, base + "/", "")), ""
        for _step in range(VERB_SEGMENTS_MAX):
            if operation is None:
                verb, (base, _, target) = f"/{target}{verb}", base.rpartition("/")
                operation = self._with_target.get((method, base + "/", verb))
        # Postgres cannot hold NUL.
        if operation is None or not target or target == SEARCH_SEGMENT or "\0" in target:
            raise UnknownRoute(
                f"Unrecognized request URL ({method}: {path}). Please see https://docs.stripe.com/api for "
                "the API's URLs."
            )
        return operation, target
