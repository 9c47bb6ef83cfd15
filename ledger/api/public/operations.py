"""Operations of the public API, and the table that finds the operation for a request's method and path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from ledger.api.unknown_routes.hints import SEARCH_SEGMENT, group_methods, unknown_route_error
from ledger.call import Call
from ledger.commands.execution import Decide, MakeChange
from ledger.domain.file import File
from ledger.queries.context import QueryContext
from ledger.queries.pages import QueryResult

VERB_SEGMENTS_MAX = 2
"""How many segments of a path may follow its target: `…/{charge}/dispute/close`."""

Read = Callable[[Call, QueryContext], Awaitable[QueryResult]]
PrepareChange = Callable[[Call, QueryContext], Awaitable[tuple[MakeChange, str | None]]]
"""What makes a change, and the data subject whose personal data its answer may have."""
Act = Callable[[Call, QueryContext], Awaitable[Mapping[str, Any]]]
Download = Callable[[Call, QueryContext], Awaitable[File]]


class Table(Protocol):
    """The parameters of an operation: a `ParameterTable`, or the model of a JSON body.

    parse  makes the values, by name, of a decoded request. Raises InvalidParameter
    """

    @property
    def members(self) -> Mapping[str, Any]:
        """What is declared of the parameters, by name."""

    @property
    def only_names(self) -> Collection[str] | None:
        """If set, parameters of other names are ignored."""

    @property
    def parse(self) -> Callable[[Any], dict[str, Any]]:
        """The function that parses."""

    def schema(self) -> dict[str, Any]:
        """The JSON schema of all parameters as one object."""

    def request_body(self) -> dict[str, Any]:
        """The OpenAPI request body of a POST."""

    def query_parameters(self) -> list[dict[str, Any]]:
        """The OpenAPI query parameters of a GET or DELETE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method and path, and the function that runs: one of `decide`, `change`, `read`, `act` and
    `download`.

    table       the parameters
    expandable  the object in the answer, or in its list: a key of `wire.expansion.EXPANDABLE_FIELDS`
    resource    the permission that a restricted key needs: `rak_<resource>_read` for GET, else
                `rak_<resource>_write`
    decide      a command
    change      prepares a change that is not recorded in the log; its reply is stored as that of a command
    read        a query, answered with JSON
    act         neither: what it changes is no part of the log, as a session of the Stripe CLI; so it has no
                stored reply, and each request is answered anew
    download    a query, answered with the contents of a file
    takes_file  whether a command has a multipart body, whose file is stored before the command runs
    open_to     a kind of key that front ends use: "pk" may call it, and no other kind may; "ek" may call it
                for its own customer, the target
    targets_account  whether the target is an account, which the key must reach
    is_preview  whether Stripe has it in preview versions only: others get the error for an unknown URL
    name        method and path, for the metrics
    writes      whether it changes something
    """

    method: str
    path: str
    summary: str
    table: Table
    expandable: str
    resource: str
    decide: Decide | None = None
    change: PrepareChange | None = None
    read: Read | None = None
    act: Act | None = None
    download: Download | None = None
    takes_file: bool = False
    open_to: Literal["pk", "ek"] | None = None
    targets_account: bool = False
    is_preview: bool = False
    name: str = field(init=False)
    writes: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", f"{self.method} {self.path}")
        object.__setattr__(self, "writes", self.decide is not None or self.change is not None)

    @property
    def required_scope(self) -> str:
        """The permission that a restricted key needs (contract §1.2)."""
        return f"rak_{self.resource}_{'read' if self.method == 'GET' else 'write'}"

    @property
    def is_list(self) -> bool:
        """Whether the answer is a list that has pages."""
        members = self.table.members
        return self.read is not None and ("starting_after" in members or "page" in members)


class Route(NamedTuple):
    """The operation that a request's method and path name, and the ids in the path: `target`, and `part`, of
    an object that belongs to the target. '' where the path has none."""

    operation: Operation
    target: str = ""
    part: str = ""


class RouteTable:
    """Operations by method and path. A path holds at most two `{…}` segments: the target, and as its last
    segment the part."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._without_target: dict[tuple[str, str], Route] = {}
        self._ending_in_target: dict[tuple[str, str], Operation] = {}
        self._with_verb: dict[tuple[str, str, str], Operation] = {}
        self._with_part: dict[tuple[str, str, str], Operation] = {}
        operations = tuple(operations)
        self._methods = group_methods((operation.method, operation.path) for operation in operations)
        for operation in operations:
            prefix, brace, rest = operation.path.partition("{")
            verb, part_brace, _ = rest.partition("}")[2].partition("/{")
            if part_brace:
                self._with_part[operation.method, prefix, verb] = operation
            elif verb:
                self._with_verb[operation.method, prefix, verb] = operation
            elif brace:
                self._ending_in_target[operation.method, prefix] = operation
            else:
                self._without_target[operation.method, operation.path] = Route(operation)

    def accepts_key_in_query(self, method: str, path: str) -> bool:
        """Whether a publishable key may be given as `key=` in the query."""
        route = self._without_target.get((method, path))
        return route is not None and route.operation.open_to == "pk"

    def find(self, method: str, path: str) -> Route:
        """The operation and the ids in the path. Raises UnknownRoute."""
        route = self._without_target.get((method, path))
        if route is not None:
            return route
        last_at = path.rfind("/") + 1
        prefix, last = path[:last_at], path[last_at:]
        operation = self._ending_in_target.get((method, prefix))
        if operation is not None and _is_id(last):
            return Route(operation, last)
        operation, target = _find_by_verb(self._with_verb, method, path)
        if operation is not None and _is_id(target):
            return Route(operation, target)
        operation, target = _find_by_verb(self._with_part, method, prefix[:-1])
        if operation is not None and _is_id(target) and _is_id(last):
            return Route(operation, target, last)
        raise unknown_route_error(method, path, self._methods)


def _find_by_verb(
    operations: Mapping[tuple[str, str, str], Operation], method: str, path: str
) -> tuple[Operation | None, str]:
    """The operation, by method and what is before and after the target in its path, and the target."""
    base, _, target = path.rpartition("/")
    operation, verb = operations.get((method, base + "/", "")), ""
    for _step in range(VERB_SEGMENTS_MAX):
        if operation is None:
            verb, (base, _, target) = f"/{target}{verb}", base.rpartition("/")
            operation = operations.get((method, base + "/", verb))
    return operation, target


def _is_id(segment: str) -> bool:
    """Whether an object can have this id. Postgres cannot hold NUL."""
    return segment not in ("", SEARCH_SEGMENT) and "\0" not in segment
