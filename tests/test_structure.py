"""The layout of the packages, checked on the sources: who may import whom, sizes, names, docstrings.

docs/architecture.md explains the rooms. A room is a module or folder directly inside `ledger` or
`projections`.
"""

from __future__ import annotations

import ast
import gc
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pytest

Function = ast.FunctionDef | ast.AsyncFunctionDef

ROOT = Path(__file__).resolve().parents[1]

# From the ground up. A room may import the rooms on lower floors and itself, never one on its own floor.
LEDGER = (
    "crypto",
    "compression errors ids logs lru",
    "background config domain time_limits tlog",
    "postgres wire",
    "call clock keys metrics",
    "accounts files store",
    "console deadlines objects service_key tree",
    "commands queries",
    "audit feed request_log webhooks witness",
    "alerts erasure stripe_cli",
    "api",
    "cli",
)
PROJECTIONS = (
    "projection", "read_models stored_rows", "engine", "rebuild", "erased_rows operate worker", "composition",
)  # fmt: skip
# These rooms compose processes and may import all of `ledger`; the others only its lower floors.
COMPOSED_IN = {"erased_rows", "operate", "worker", "composition"}
BELOW_PROJECTIONS = set(" ".join(LEDGER[:6]).split())
COMMAND = "ledger.__main__"
"""The `ledger` command: the one module above both packages."""
# Pure rooms have no I/O, clock, randomness, environment or logging: what they may import beside lower floors.
PURE = ("domain", "wire")
PURE_PACKAGES = {"ledger", "msgspec"}
IMPURE_MODULES = {
    "asyncio", "datetime", "io", "logging", "os", "pathlib", "random", "secrets", "socket", "subprocess",
    "sys", "tempfile", "threading", "time", "uuid",
}  # fmt: skip
GROUND_OF_PURE = {"errors", "ids", "domain", "wire"}
DRAWERS = {"base", "common", "constants", "helpers", "misc", "shared", "types", "util", "utils"}
LINES_MAX = 400
FUNCTION_LINES_MAX = 60
FOLDER_FILES_MAX = 14
# Folders with one file for each thing of a kind may hold more; so may those of tests.
ALIKE = {
    "benchmarks": "one file a benchmark",
    "ledger/domain": "one file an aggregate, one for its decisions",
    "ledger/wire": "one file an object's JSON",
    "ledger/wire/tables": "one file an object's parameters",
    "ledger/commands": "one file a resource's commands",
    "ledger/queries": "one file a resource's queries",
}
# Words in -ing that are nouns of the field; any other one in a file's name describes an activity.
NOUNS_IN_ING = {"backdating", "batching", "encoding"}
# Files and functions that do not keep these rules yet. Both lists only become shorter.
UNDOCUMENTED: set[str] = set()
TOO_LONG: set[str] = set()
READS_ENVIRONMENT = {
    "ledger/config.py": "the settings",
    "ledger/postgres/binaries.py": "the environment of the programs it runs, without PG variables",
    "ledger/metrics/prometheus.py": "prometheus_client's own switch for several processes",
    "ledger/cli/service/metrics_folder.py": "prometheus_client's own switch for several processes",
    "projections/rebuild/processes.py": "the environment of its child processes",
}


class Module(NamedTuple):
    """A Python file, parsed: all its nodes, those of functions too."""

    path: Path
    tree: ast.Module
    nodes: tuple[ast.AST, ...]

    @property
    def name(self) -> str:
        return ".".join(self.path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")

    @property
    def file(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]

    def imports(self) -> Iterator[str]:
        """Full names of all imports, also inside functions. `from a import b` may name the module a.b."""
        for node in self.nodes:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.file}: imports are absolute"
                yield from (f"{node.module}.{alias.name}" for alias in node.names)

    def functions(self) -> Iterator[Function]:
        """All functions and methods, also nested ones."""
        yield from (node for node in self.nodes if isinstance(node, Function))


@cache
def modules_of(package: str) -> tuple[Module, ...]:
    """The Python files under one folder, by path; each is read and parsed once. Without a pause the garbage
    collector looks at all nodes again and again, which takes four times as long as parsing."""
    gc.disable()
    try:
        return tuple(parse(file) for file in sorted((ROOT / package).rglob("*.py")))
    finally:
        gc.freeze()
        gc.enable()


def parse(file: Path) -> Module:
    tree = ast.parse(file.read_text())
    return Module(file, tree, tuple(ast.walk(tree)))


def modules(*packages: str) -> tuple[Module, ...]:
    """The Python files under these folders."""
    return tuple(module for package in packages for module in modules_of(package))


def load_all_modules() -> tuple[Module, ...]:
    """The files of both packages that are installed."""
    return modules("ledger", "projections")


def room_of(name: str) -> str | None:
    """The room of a name imported from `ledger`; None for the package itself (its version)."""
    room = name.split(".")[1]
    return None if room.startswith("__") else room


def floor_of(package: str, room: str) -> int:
    """The floor of a room, from 0 at the ground."""
    for number, floor in enumerate({"ledger": LEDGER, "projections": PROJECTIONS}[package]):
        if room in floor.split():
            return number
    raise AssertionError(f"the room {package}.{room} has no floor yet: add it to the floors above")


@pytest.mark.parametrize("package", ["ledger", "projections"])
def test_imports_go_down_only(package: str) -> None:
    for module in modules(package):
        if module.name in (package, COMMAND):
            continue
        own = room_of(module.name)
        assert own is not None
        for name in module.imports():
            if name.startswith(f"{package}.") and (room := room_of(name)) not in (None, own):
                assert room is not None
                assert floor_of(package, room) < floor_of(package, own), f"{module.file} imports {name}"


def test_the_packages_themselves_import_nothing() -> None:
    for module in load_all_modules():
        if module.path.name == "__init__.py" and module.name != "ledger.wire.tables":
            assert list(module.imports()) == [], module.file


def test_ledger_never_imports_projections_but_in_its_command() -> None:
    for module in modules("ledger"):
        if module.name != COMMAND:
            assert not any(name.partition(".")[0] == "projections" for name in module.imports()), module.file
    for module in load_all_modules():
        assert not any(name.startswith(COMMAND) for name in module.imports()), module.file


def test_projections_work_below_the_api_except_where_the_process_is_composed() -> None:
    for module in modules("projections"):
        if module.name == "projections" or room_of(module.name) in COMPOSED_IN:
            continue
        rooms = {room_of(name) for name in module.imports() if name.startswith("ledger.")}
        assert rooms - {None} <= BELOW_PROJECTIONS, module.file


def test_nothing_but_tests_imports_tests_or_benchmarks() -> None:
    for module in load_all_modules():
        assert {"tests", "benchmarks"}.isdisjoint(name.partition(".")[0] for name in module.imports())


@pytest.mark.parametrize("room", PURE)
def test_pure_rooms_import_nothing_impure(room: str) -> None:
    for module in modules("ledger"):
        if room_of(f"{module.name}.x") != room:
            continue
        for name in module.imports():
            top = name.partition(".")[0]
            if top == "ledger":
                assert room_of(name) in GROUND_OF_PURE, f"{module.file} imports {name}"
            else:
                assert top in PURE_PACKAGES | set(sys.stdlib_module_names), f"{module.file} imports {name}"
                assert top not in IMPURE_MODULES, f"{module.file} imports {name}"


def test_only_the_store_knows_the_eventsourcing_library() -> None:
    users = {
        module.name.rpartition(".")[0]
        for module in load_all_modules()
        if any(name.partition(".")[0] == "eventsourcing" for name in module.imports())
    }
    assert users == {"ledger.store"}


def test_only_the_api_knows_the_web_framework() -> None:
    for module in load_all_modules():
        web = {"fastapi", "starlette"} & {name.partition(".")[0] for name in module.imports()}
        assert not web or module.name.startswith(("ledger.api.", "projections.operate.")), module.file


def test_nobody_but_config_reads_the_environment() -> None:
    readers = {
        module.file
        for module in load_all_modules()
        for node in module.nodes
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb")
        if isinstance(node.value, ast.Name) and node.value.id == "os"
    }
    assert readers <= set(READS_ENVIRONMENT)
    settings = {
        module.file
        for module in load_all_modules()
        if any("pydantic_settings" in name for name in module.imports())
    }
    assert settings == {"ledger/config.py"}


def test_only_api_errors_knows_status_codes() -> None:
    """One table has the status of each error; no other module writes down a status, or raises one.
    `error_handlers.py` reads that of FastAPI's own errors. The witness speaks a protocol of its own:
    `ledger/witness/app.py` has a table for that."""
    table = next(module for module in modules("ledger") if module.name == "ledger.api.errors")
    codes = {
        node.value
        for node in table.nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, int) and 400 <= node.value < 600
    }
    assert {400, 401, 402, 403, 404, 429, 500} <= codes
    for module in load_all_modules():
        if module.file in (table.file, "ledger/api/error_handlers.py"):
            continue
        assert not any(name.endswith((".HTTPException", ".HTTPStatus")) for name in module.imports()), (
            module.file
        )
        calls = [node for node in module.nodes if isinstance(node, ast.Call)]
        for keyword in (keyword for call in calls for keyword in call.keywords):
            number = isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, int)
            written = number and keyword.arg in ("status", "status_code")
            assert not written, f"{module.file}:{keyword.lineno}"
        for node in module.nodes:
            if isinstance(node, ast.Assign | ast.Compare) and "status" in ast.unparse(node).partition("=")[0]:
                values = [node.value] if isinstance(node, ast.Assign) else node.comparators
                numbers = [value.value for value in values if isinstance(value, ast.Constant)]
                in_range = [n for n in numbers if isinstance(n, int) and 400 <= n < 600]
                assert not in_range, f"{module.file}:{node.lineno}"


def test_only_alembic_makes_tables() -> None:
    """Run-time code creates and drops partitions, nothing else."""
    statement = re.compile(
        r"\b(CREATE|ALTER|DROP)\s+(TABLE|INDEX|VIEW|TYPE|SCHEMA|FUNCTION)\b", re.IGNORECASE
    )
    allowed = {
        "projections/engine/partitions.py",
        "projections/engine/daily_partitions.py",
        "ledger/postgres/migrations.py",
        "ledger/postgres/programs/keys.py",  # what a restore leaves out
        "ledger/postgres/programs/restore.py",  # a restore that failed
    }
    for module in load_all_modules():
        for node in module.nodes:
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and statement.search(node.value)
            ):
                assert module.file in allowed, f"{module.file}:{node.lineno}"


def test_there_are_no_drawers() -> None:
    for module in modules("ledger", "projections", "benchmarks", "tests"):
        assert DRAWERS.isdisjoint(module.name.split(".")), module.file


def limited() -> tuple[Module, ...]:
    """The files whose size is limited: those of the packages and benchmarks, and what tests share."""
    helpers = (module for module in modules("tests") if not module.path.name.startswith("test_"))
    return (*modules("ledger", "projections", "benchmarks"), *helpers)


def test_modules_are_short_enough_to_read_in_one_sitting() -> None:
    too_long = {module.file for module in limited() if len(module.path.read_text().splitlines()) > LINES_MAX}
    assert too_long <= TOO_LONG


def test_functions_are_short_enough_to_read_at_a_glance() -> None:
    too_long = {
        f"{module.file}:{function.name}"
        for module in modules("ledger", "projections", "benchmarks", "tests")
        for function in module.functions()
        if function.end_lineno is not None and function.end_lineno - function.lineno + 1 > FUNCTION_LINES_MAX
    }
    assert too_long <= TOO_LONG


def test_folders_are_small_unless_their_files_are_alike() -> None:
    files = Counter(
        str(module.path.parent.relative_to(ROOT))
        for module in modules("ledger", "projections", "benchmarks", "tests")
        if module.path.name != "__init__.py"
    )
    for folder, count in files.items():
        alike = folder in ALIKE or folder.startswith("tests/")
        assert count <= FOLDER_FILES_MAX or alike, f"{folder}: {count} files"


def test_files_are_named_by_nouns() -> None:
    for module in modules("ledger", "projections", "benchmarks", "tests"):
        for word in module.path.stem.split("_"):
            assert not word.endswith("ing") or word in NOUNS_IN_ING, module.file


def test_every_module_has_a_short_docstring() -> None:
    for module in modules("ledger", "projections", "benchmarks", "alembic/versions"):
        docstring = ast.get_docstring(module.tree)
        empty = not module.tree.body
        assert docstring or empty, module.file
        assert len((docstring or "").splitlines()) <= 8 or module.name == "ledger.errors", module.file


def test_every_public_function_has_a_docstring() -> None:
    """Public methods too, unless a protocol or base class of ours documents the method of that name."""
    classes = [
        node for module in load_all_modules() for node in module.nodes if isinstance(node, ast.ClassDef)
    ]
    bases = {ast.unparse(base).partition("[")[0] for node in classes for base in node.bases}
    inherited = {
        function.name
        for node in classes
        if node.name in bases or "Protocol" in map(ast.unparse, node.bases)
        for _, function in public_functions(node.body)
        if ast.get_docstring(function)
    }
    missing = {
        module.file
        for module in load_all_modules()
        for name, function in public_functions(module.tree.body)
        if not ast.get_docstring(function) and not ("." in name and function.name in inherited)
    }
    assert missing <= UNDOCUMENTED


def public_functions(body: Iterable[ast.stmt], prefix: str = "") -> Iterator[tuple[str, Function]]:
    """Public functions at the top of a module and public methods of public classes, by qualified name."""
    for node in body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            if isinstance(node, ast.ClassDef):
                yield from public_functions(node.body, f"{prefix}{node.name}.")
            else:
                yield prefix + node.name, node


def test_importing_a_module_runs_nothing() -> None:
    """No statement at the top level of a module is a bare call."""
    for module in load_all_modules():
        for node in module.tree.body:
            called = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
            assert not called, f"{module.file}:{node.lineno}"


def test_no_error_is_swallowed_silently() -> None:
    """A broad `except` raises again or does something about the error; `pass` or `continue` alone is not
    allowed."""
    for module in load_all_modules():
        for node in module.nodes:
            if isinstance(node, ast.ExceptHandler):
                assert node.type is not None, f"{module.file}:{node.lineno}"
                broad = isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")
                goes_on = all(isinstance(statement, ast.Pass | ast.Continue) for statement in node.body)
                assert not (broad and goes_on), f"{module.file}:{node.lineno}"
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
                suppressed = {ast.unparse(argument) for argument in node.args}
                assert not suppressed & {"Exception", "BaseException"}, f"{module.file}:{node.lineno}"


def test_migrations_limit_their_wait_for_locks_and_are_numbered_in_a_row() -> None:
    versions = modules("alembic/versions")
    numbers = [module.path.name.partition("_")[0] for module in versions]
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]
    previous: str | None = None
    for module, number in zip(versions, numbers, strict=True):
        constants = {
            node.targets[0].id: node.value.value
            for node in module.tree.body
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Constant)
        }
        assert (constants["revision"], constants["down_revision"]) == (number, previous)
        assert "SET LOCAL lock_timeout" in module.path.read_text(), module.file
        previous = number


def test_every_dependency_is_pinned_to_a_version_and_to_no_location() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.lstrip().startswith("#")]
    for line in pins:
        assert re.fullmatch(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==[\w.+!]+( ;.+)?", line), line
    assert not re.search(r"https?://|@|--index|--find-links|/simple", "\n".join(lines))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    names = {re.split(r"[\[><=;\s]", requirement)[0].lower() for requirement in required}
    assert names <= {re.split(r"==|\[", line)[0].lower() for line in pins}
