"""What the benchmarks compute from what they measured, and that the document shows the figures that are kept.

Nothing is measured here: times are no tests.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psycopg
import pytest

from benchmarks import against, disk, document, layers, load, process_stats, sizes, workers
from benchmarks.against import collect_values, compare_builds
from benchmarks.history import copy_history
from benchmarks.http import LoadMeasurement
from benchmarks.load import Outcome, Request
from benchmarks.measurement import Effort
from benchmarks.process_stats import Cpu, parse_role
from benchmarks.report import Figure, Goal, compare, figure, write_json
from benchmarks.service import run_yardstick
from ledger.store.codec import Codec


@pytest.mark.parametrize(
    ("name", "arguments", "role", "what"),
    [
        ("python3", "/usr/bin/python3 -m ledger serve", "api", "serve"),
        ("python3", "/usr/bin/python3 -P -m ledger api --fd 7", "api", "api"),
        ("ledger", "/opt/env/bin/python /opt/env/bin/ledger serve", "api", "serve"),
        ("ledger", "/opt/env/bin/python /opt/env/bin/ledger worker", "background", "worker"),
        ("python3", "/usr/bin/python3 -P -m ledger worker --watched", "background", "worker"),
        ("ledger api", "/usr/bin/python3 -m ledger serve", "api", "api"),
        ("ledger worker", "/usr/bin/python3 -m ledger serve", "background", "worker"),
    ],
)
def test_a_process_is_known_by_its_name_or_its_arguments(
    name: str, arguments: str, role: str, what: str
) -> None:
    assert parse_role(name, arguments.split()) == (role, what)


@pytest.mark.parametrize(
    ("title", "what"),
    [
        ("postgres: ledger_api ledger [local] idle", "ledger_api"),
        ("postgres: checkpointer ", "checkpointer"),
        ("/opt/pginstall/bin/postgres", "postmaster"),
    ],
)
def test_a_process_of_postgres_is_known_by_its_title(title: str, what: str) -> None:
    assert parse_role("postgres", [title]) == ("postgres", what)


def test_this_process_is_found_with_its_memory_and_its_cpu() -> None:
    (this,) = [each for each in process_stats.list_service_processes(os.getpid()) if each.pid == os.getpid()]
    assert this.memory_mb > 10
    assert this.cpu_seconds > 0


@pytest.mark.parametrize(
    ("modules", "layer"),
    [
        ("ledger.wire.forms ledger.api.exchange uvicorn.server", "wire"),
        ("json.encoder ledger.store.codec ledger.store.journal ledger.api.app", "encode"),
        ("hmac ledger.commands.session_secrets ledger.commands.execution", "encode"),
        ("ledger.domain.customer ledger.commands.customers ledger.api.app", "decide"),
        ("psycopg.generators psycopg.cursor_async ledger.store.appender asyncio.runners", "database"),
        ("psycopg.cursor_async projections.engine.batch asyncio.runners", "project"),
        ("ledger.store.codec ledger.tree.sealer asyncio.runners", "other background work"),
        ("asyncio.runners ledger.cli.service.serve", "http"),
        ("ledger.wire.forms asyncio.runners ledger.serving projections.__main__", "wire"),
        ("ledger.wires", "http"),
        ("", "http"),
    ],
)
def test_a_sample_belongs_to_the_innermost_layer(modules: str, layer: str) -> None:
    assert layers.get_layer(modules.split()) == layer


def test_only_samples_of_the_load_count() -> None:
    lines = ["1.000 ledger.wire.forms", "2.000 ledger.wire.forms", "2.500 ledger.domain.customer", "3.500 x"]
    assert layers.count_layers(lines, since=1.5, until=3.0) == {"wire": 1, "decide": 1}


def test_the_sampler_writes_the_modules_of_the_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loaded without BENCHMARK_SAMPLES, it does not start."""
    specification = importlib.util.spec_from_file_location("sampler", layers.SAMPLER / "sitecustomize.py")
    assert specification is not None
    assert specification.loader is not None
    sampler = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(sampler)
    monkeypatch.setenv("BENCHMARK_SAMPLES", str(tmp_path))
    sampler._sample(0, sys._getframe())
    (file,) = tmp_path.iterdir()
    moment, innermost, *_ = file.read_text().split()
    assert float(moment) > 0
    assert innermost == __name__


def test_sizes_are_the_shortest_log_a_million_and_the_longest() -> None:
    assert sizes.choose_sizes(10_000) == [1_000, 10_000]
    assert sizes.choose_sizes(1_000_000) == [10_000, 1_000_000]
    assert sizes.choose_sizes(10_000_000) == [10_000, 1_000_000, 10_000_000]


def test_the_rate_without_the_generator_has_all_cores() -> None:
    outcome = Outcome(1000.0, 1.0, 2.0, completed=2000, failed=0, generator_seconds=1.0)
    measurement = LoadMeasurement(outcome, Cpu(1.0, 0.5, 0.5), 0.0)
    assert workers.scale_to_all_cores(measurement, cores=2) == pytest.approx(1000 * 2 / 1.5)
    assert measurement.cpu_microseconds() == Cpu(500.0, 250.0, 250.0)
    assert measurement.cpu_microseconds().total == 1000.0


def test_a_mix_is_sent_in_turns_and_only_keyed_requests_have_a_key() -> None:
    post = Request(1, "POST", "/v1/customers", form="name=Jenny", keyed=True)
    get = Request(1, "GET", "/v1/customers")

    async def create_requests() -> list[tuple[str, bytes]]:
        run = load._LoadRun([post, get], connections=1, seconds=1)
        return [run.create_request() for _ in range(4)]

    methods, sent = zip(*asyncio.run(create_requests()), strict=True)
    assert methods == ("POST", "GET", "POST", "GET")
    assert [each.split()[0] for each in sent] == [b"POST", b"GET", b"POST", b"GET"]
    keys = [line for each in sent for line in each.split(b"\r\n") if line.startswith(b"Idempotency-Key: ")]
    assert len(set(keys)) == 2


def test_the_latencies_of_a_mix_are_known_by_method() -> None:
    with run_yardstick("raw") as port:
        mix = [
            Request(port, "POST", "/v1/customers", form="name=Jenny"),
            Request(port, "GET", "/v1/customers"),
        ]
        latencies = load.measure_latencies(mix, connections=2, seconds=0.1)
    assert latencies.keys() == {"POST", "GET"}
    assert all(0 < each.median_ms <= each.p99_ms for each in latencies.values())


def test_builds_are_compared_by_work_whatever_the_number_of_projections() -> None:
    def run(value: float, work: str) -> list[dict[str, Any]]:
        rate = {"group": "catch-up", "work": work, "unit": "/s", "value": value}
        return [rate, {**rate, "value": 1.0}]

    ours = collect_values([run(200.0, "10 events, 16 projections"), run(300.0, "10 events, 16 projections")])
    earlier = collect_values(
        [run(100.0, "10 events, 15 projections"), run(100.0, "10 events, 15 projections")]
    )
    (figure,) = compare_builds("projections", ours, earlier, projections_note="16 and 15")
    assert figure.note == "16 and 15"
    assert (figure.work, figure.value, figure.ratio) == ("10 events, projections", 250.0, 2.5)
    (alone,) = compare_builds("projections", ours, {})
    assert (alone.value, alone.ratio, alone.note) == (250.0, None, against.NOT_MEASURED)


def test_how_many_projections_a_build_has_is_read_from_its_works() -> None:
    assert (
        against.find_count([[{"work": "bulk append"}, {"work": "500 events, 11 views"}]]) == "11 projections"
    )
    assert against.find_count([[{"work": "16 callers"}]]) == ""


@pytest.mark.parametrize(
    ("former", "present"),
    [
        ("11 views, by the second of computing", "11 projections, events per CPU second"),
        ("5,000 events, 11 views, 1 worker", "5,000 events, 11 projections, 1 worker"),
        ("the customers alone, by the second of computing", "customers only, events per CPU second"),
        ("16 callers", "16 callers"),
    ],
)
def test_works_of_an_earlier_build_are_known_by_their_former_names(former: str, present: str) -> None:
    assert against.use_present_names(former) == present


def test_a_goal_is_reached_by_the_ratio_or_else_by_the_figure() -> None:
    assert compare("g", "w", [3.0], "y", [2.0], goal=Goal(1.5)).reached
    assert compare("g", "w", [3.0], "y", [2.0], goal=Goal(1.4, is_maximum=True)).reached is False
    assert figure("g", "w", [8.0], "ms", goal=Goal(8, is_maximum=True)).reached
    assert figure("g", "w", [8.0]).reached is None


def test_what_a_load_left_on_disk_is_counted_with_partitions(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        before = disk.read_disk_use(conn)
        copy_history(dsn, Codec(b"a key of 32 bytes for benchmarks"), 1, 500, days=1.0)
        added = disk.subtract(disk.read_disk_use(conn), before)
    assert added.events == 500
    assert added.tables[disk.LOG].bytes_per_row > 100
    assert added.table_bytes >= added.tables[disk.LOG].table_bytes
    assert added.wal_bytes > 500 * 100


FIGURES: Mapping[str, list[Figure]] = {
    "http": [
        compare("hTTP", "POST /v1/customers", [100.0, 300.0], "Form()", [200.0, 200.0], goal=Goal(1.5)),
        figure("hTTP", "p99", [7.5], "ms", goal=Goal(8, is_maximum=True), note="quiet"),
    ],
    "append": [figure("append", "1 caller", [1234.5])],
}
MACHINE = {
    "cpu": "2 x CPU",
    "memory": "24 GiB",
    "system": "Linux",
    "python": "3.11",
    "flush": "90 µs",
    "load": "0.1",
}
TEXT = """before
<!-- figures: http -->
old
<!-- end of figures -->
between
<!-- figures: append -->
<!-- end of figures -->
"""
HTTP_TABLE = """
| work | figure | range | yardstick | its figure | ratio | goal | note |
|---|---|---|---|---|---|---|---|
| POST /v1/customers | 200/s | 100 to 300 | Form() | 200/s | 1.00 | ≥ 1.5, missed | |
| p99 | 7.5 ms | | | | | ≤ 8, reached | quiet |
"""


def test_a_run_becomes_tables_between_the_marks_of_its_groups(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    write_json(file, MACHINE, Effort(seconds=0.5, rounds=2, events=10), FIGURES)
    run = json.loads(file.read_text())
    assert run["figures"][0] == {"benchmark": "http", **asdict(FIGURES["http"][0])}
    runs = document.split_run(run)
    assert list(runs) == ["http", "append"]
    text = document.fill_document(TEXT, runs)
    assert f"load 0.1.\n\n**HTTP**\n{HTTP_TABLE}" in text
    assert ", 2 rounds, 2 x CPU, 24 GiB, Linux, Python 3.11, flush 90 µs, load 0.1." in text
    assert "| 1 caller | 1,234/s |" in text
    assert "old" not in text
    assert text.startswith("before\n")
    assert document.fill_document(text, runs) == text
    assert document.fill_document(text, {}).count("|") == 0


@pytest.mark.parametrize(
    ("load", "flush", "words"),
    [
        ("0.8", "74 µs", None),
        ("5.0", "74 µs", "used the cores: "),
        ("0.8", "1274 µs", "used the disk: "),
        ("5.0", "1274 µs", "used the cores and the disk: "),
    ],
)
def test_a_run_on_a_busy_machine_says_so(load: str, flush: str, words: str | None) -> None:
    run = {
        "machine": MACHINE | {"load": load, "flush": flush},
        "date": "2026-11-28",
        "rounds": 1,
        "figures": [],
    }
    text = document.fill_document(TEXT, {"http": run})
    assert ("**Other programs" in text) == (words is not None)
    assert words is None or words in text


def test_figures_without_a_place_are_refused() -> None:
    with pytest.raises(ValueError, match="append"):
        document.fill_document("nothing here", {"append": {}})


def test_the_document_shows_the_figures_that_are_kept() -> None:
    """If this fails: python -m benchmarks.document."""
    text = document.DOCUMENT.read_text()
    assert document.fill_document(text, document.load_figures()) == text
