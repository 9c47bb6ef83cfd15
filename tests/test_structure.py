"""The rooms of the house and what may be in them: read from the sources, never listed twice."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]

# From the ground up. A room may import what lies on lower floors, and itself; never a neighbour.
LEDGER = (
    "errors ids call logs lru",
    "background config domain",
    "postgres wire",
    "clock metrics",
    "accounts files store",
    "deadlines objects",
    "commands queries",
    "webhooks",
    "api",
    "cli",
)
PROJECTIONS = ("projection", "read_models", "engine", "rebuild", "operate worker", "composition")
# The rooms of projections that a process is composed in see all of ledger; the others its lower half.
COMPOSED_IN = {"operate", "worker", "composition"}
BELOW_PROJECTIONS = set(" ".join(LEDGER[:5]).split())
COMMAND = "ledger.__main__"
"""The `ledger` command: the one module above both packages."""
# What pure rooms may have beside the floors below them: no I/O, clock, randomness, environment or logging.
PURE = ("domain", "wire")
PURE_PACKAGES = {"ledger", "msgspec"}
IMPURE_MODULES = {
    "asyncio", "datetime", "io", "logging", "os", "pathlib", "random", "secrets", "socket", "subprocess",
    "sys", "tempfile", "threading", "time", "uuid",
}  # fmt: skip
GROUND_OF_PURE = {"errors", "ids", "domain", "wire"}
DRAWERS = {"base", "common", "constants", "helpers", "misc", "shared", "types", "util", "utils"}
LINES_MAX = 400
LONGER_FOR_A_REASON = {
    "ledger/api/app.py": "the composition of a process, being cut",
    "ledger/postgres/embedded.py": "running our own database server, in one place",
}
READS_ENVIRONMENT = {
    "ledger/config.py": "the settings",
    "ledger/postgres/embedded.py": "what a program that it runs inherits, without PG variables",
    "ledger/metrics.py": "prometheus_client's own switch for several processes",
    "ledger/cli/processes.py": "what its child processes inherit",
    "projections/rebuild/processes.py": "what its child processes inherit",
}


class Module(NamedTuple):
    """A source file of the packages."""

    path: Path
    tree: ast.Module

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
        """Full names of what is imported, anywhere in it: `from a import b` may be the module a.b."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.file}: imports are absolute"
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def modules(*packages: str) -> tuple[Module, ...]:
    files = [file for package in packages for file in sorted((ROOT / package).rglob("*.py"))]
    return tuple(Module(file, ast.parse(file.read_text())) for file in files)


def ours() -> tuple[Module, ...]:
    return modules("ledger", "projections")


def room_of(name: str) -> str | None:
    """The room of a name imported from `ledger`; None for the package itself (its version)."""
    room = name.split(".")[1]
    return None if room.startswith("__") else room


def floor_of(package: str, room: str) -> int:
    for number, floor in enumerate({"ledger": LEDGER, "projections": PROJECTIONS}[package]):
        if room in floor.split():
            return number
    raise AssertionError(f"the room {package}.{room} has no floor yet: give it one")


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
    for module in ours():
        if module.path.name == "__init__.py" and module.name != "ledger.wire.tables":
            assert list(module.imports()) == [], module.file


def test_ledger_never_imports_projections_but_in_its_command() -> None:
    for module in modules("ledger"):
        if module.name != COMMAND:
            assert not any(name.partition(".")[0] == "projections" for name in module.imports()), module.file
    for module in ours():
        assert not any(name.startswith(COMMAND) for name in module.imports()), module.file


def test_projections_work_below_the_api_except_where_the_process_is_composed() -> None:
    for module in modules("projections"):
        if module.name == "projections" or room_of(module.name) in COMPOSED_IN:
            continue
        rooms = {room_of(name) for name in module.imports() if name.startswith("ledger.")}
        assert rooms - {None} <= BELOW_PROJECTIONS, module.file


def test_nothing_but_tests_imports_tests_or_benchmarks() -> None:
    for module in ours():
        assert {"tests", "benchmarks"}.isdisjoint(name.partition(".")[0] for name in module.imports())


@pytest.mark.parametrize("room", PURE)
def test_pure_rooms_have_no_way_out(room: str) -> None:
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
        for module in ours()
        if any(name.partition(".")[0] == "eventsourcing" for name in module.imports())
    }
    assert users == {"ledger.store"}


def test_only_the_api_knows_the_web_framework() -> None:
    for module in ours():
        web = {"fastapi", "starlette"} & {name.partition(".")[0] for name in module.imports()}
        assert not web or module.name.startswith(("ledger.api.", "projections.operate.")), module.file


def test_nobody_but_config_reads_the_environment() -> None:
    readers = {
        module.file
        for module in ours()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb")
        if isinstance(node.value, ast.Name) and node.value.id == "os"
    }
    assert readers <= set(READS_ENVIRONMENT)
    settings = {
        module.file for module in ours() if any("pydantic_settings" in name for name in module.imports())
    }
    assert settings == {"ledger/config.py"}


def test_only_the_app_turns_errors_into_status_codes() -> None:
    """Each error's status stands in one table; nobody else writes one down, or raises by number."""
    app = next(module for module in modules("ledger") if module.name == "ledger.api.app")
    codes = {
        node.value
        for node in ast.walk(app.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, int) and 400 <= node.value < 600
    }
    assert {400, 401, 402, 403, 404, 429, 500} <= codes
    for module in ours():
        if module.file == app.file:  # another reading of the sources made it
            continue
        assert not any(name.endswith((".HTTPException", ".HTTPStatus")) for name in module.imports()), (
            module.file
        )
        calls = [node for node in ast.walk(module.tree) if isinstance(node, ast.Call)]
        for keyword in (keyword for call in calls for keyword in call.keywords):
            number = isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, int)
            written = number and keyword.arg in ("status", "status_code")
            assert not written, f"{module.file}:{keyword.lineno}"


def test_only_alembic_makes_tables() -> None:
    """Run-time code makes and drops partitions, nothing else."""
    statement = re.compile(
        r"\b(CREATE|ALTER|DROP)\s+(TABLE|INDEX|VIEW|TYPE|SCHEMA|FUNCTION)\b", re.IGNORECASE
    )
    allowed = {
        "projections/engine/partitions.py",
        "projections/engine/daily_partitions.py",
        "ledger/postgres/connections.py",
    }
    for module in ours():
        for node in ast.walk(module.tree):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and statement.search(node.value)
            ):
                assert module.file in allowed, f"{module.file}:{node.lineno}"


def test_there_are_no_drawers() -> None:
    for module in modules("ledger", "projections", "benchmarks", "tests"):
        assert DRAWERS.isdisjoint(module.name.split(".")), module.file


def test_modules_are_short_enough_to_read_in_one_sitting() -> None:
    for module in modules("ledger", "projections", "benchmarks"):
        lines = len(module.path.read_text().splitlines())
        assert lines <= LINES_MAX or module.file in LONGER_FOR_A_REASON, f"{module.file}: {lines} lines"


def test_every_module_says_what_it_guarantees() -> None:
    for module in modules("ledger", "projections", "benchmarks", "alembic/versions"):
        docstring = ast.get_docstring(module.tree)
        empty = not module.tree.body
        assert docstring or empty, module.file
        assert len((docstring or "").splitlines()) <= 8 or module.name == "ledger.errors", module.file


def test_importing_a_module_runs_nothing() -> None:
    """No statement at a module's top level is a bare call, save in what is run as a program."""
    for module in ours():
        for node in module.tree.body:
            called = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
            assert not called, f"{module.file}:{node.lineno}"


def test_no_error_is_swallowed_unseen() -> None:
    """A broad `except` hands on what it caught or does something else instead; it never just goes on."""
    for module in ours():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ExceptHandler):
                assert node.type is not None, f"{module.file}:{node.lineno}"
                broad = isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")
                goes_on = all(isinstance(statement, ast.Pass | ast.Continue) for statement in node.body)
                assert not (broad and goes_on), f"{module.file}:{node.lineno}"
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
                suppressed = {ast.unparse(argument) for argument in node.args}
                assert not suppressed & {"Exception", "BaseException"}, f"{module.file}:{node.lineno}"


def test_migrations_wait_for_no_lock_and_are_numbered_in_a_row() -> None:
    versions = modules("alembic/versions")
    numbers = [module.path.name.partition("_")[0] for module in versions]
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]
    previous: str | None = None
    for module, number in zip(versions, numbers, strict=True):
        given = {
            node.targets[0].id: node.value.value
            for node in module.tree.body
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Constant)
        }
        assert (given["revision"], given["down_revision"]) == (number, previous)
        assert "SET LOCAL lock_timeout" in module.path.read_text(), module.file
        previous = number


@cache
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return document


def test_compose_runs_the_commands_that_there_are() -> None:
    services = compose()["services"]
    commands = {name: service["command"] for name, service in services.items() if "command" in service}
    assert commands == {"migrate": ["migrate"], "api": ["api"], "worker": ["worker"]}
    cli = (ROOT / "ledger/cli/app.py").read_text()
    for (command,) in commands.values():
        assert f'@cli.command("{command}")' in cli or f"@cli.command()\n    def {command}(" in cli


def test_compose_holds_no_secret_and_opens_no_door() -> None:
    text = (ROOT / "compose.yaml").read_text()
    for line in re.findall(r"^.*(?:PASSWORD|SECRET)\w*: .*$", text, re.MULTILINE):
        assert line.lstrip().startswith("#") or "${" in line, line
    services = compose()["services"]
    assert {name for name, service in services.items() if "ports" in service} == {"api"}
    assert services["api"]["ports"] == ["${LEDGER_PUBLISH:-127.0.0.1:4242}:4242"]
    for name in ("migrate", "api", "worker"):
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]


def test_compose_lets_the_service_drain_and_the_data_stay() -> None:
    services, volumes = compose()["services"], compose()["volumes"]
    for name in ("api", "worker"):
        assert int(services[name]["stop_grace_period"].removesuffix("s")) > 10
        assert services[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    assert services["postgres"]["volumes"][0].partition(":")[0] in volumes


def test_compose_sets_only_settings_that_there_are() -> None:
    from ledger.config import Settings

    known = {f"LEDGER_{name.upper()}" for name in Settings.model_fields}
    for service in compose()["services"].values():
        given = {name for name in service.get("environment", {}) if name.startswith("LEDGER_")}
        assert given <= known


def test_every_dependency_is_pinned_and_none_to_a_place() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.lstrip().startswith("#")]
    for line in pins:
        assert re.fullmatch(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==[\w.+!]+( ;.+)?", line), line
    assert not re.search(r"https?://|@|--index|--find-links|/simple", "\n".join(lines))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    names = {re.split(r"[\[><=;\s]", requirement)[0].lower() for requirement in required}
    assert names <= {re.split(r"==|\[", line)[0].lower() for line in pins}
