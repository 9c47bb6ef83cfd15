"""The tools of a contributor: the fast tests start nothing, hooks run the tools of the environment, and what
counts the work of a function counts nothing else."""

from __future__ import annotations

import ast
import gc
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import PURE
from tests.work import count_calls

TESTS = Path(__file__).parent
# What reaches a database, another process or the network.
NOT_PURE = (
    "ledger.api", "ledger.cli", "ledger.postgres", "projections.engine", "projections.rebuild", "psycopg",
    "socket", "subprocess", "tests.api", "tests.serving", "tests.store",
)  # fmt: skip


def imported_by(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_the_fast_tests_start_nothing() -> None:
    places = [place for pattern in PURE for place in TESTS.glob(pattern)]
    files = [file for place in places for file in ([place] if place.is_file() else place.rglob("*.py"))]
    assert len(files) > 20
    for file in files:
        for name in imported_by(file):
            assert not f"{name}.".startswith(tuple(f"{banned}." for banned in NOT_PURE)), f"{file}: {name}"


def test_the_hooks_run_the_tools_of_the_environment() -> None:
    config = yaml.safe_load((TESTS.parent / ".pre-commit-config.yaml").read_text())
    assert [repository["repo"] for repository in config["repos"]] == ["local"]
    for hook in config["repos"][0]["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"].startswith(".venv/bin/")


def test_a_collection_of_garbage_is_not_counted() -> None:
    def listen(phase: str, info: dict[str, Any]) -> None:
        len(phase) + len(info)

    def work() -> None:
        kept: list[Any] = []
        for _ in range(1000):
            kept = [kept]

    thresholds = gc.get_threshold()
    gc.callbacks.append(listen)
    gc.set_threshold(10)
    try:
        assert count_calls(work) == 2  # `work`, and the end of counting
        assert gc.isenabled()
    finally:
        gc.callbacks.remove(listen)
        gc.set_threshold(*thresholds)
