"""The alerts and the dashboard: one rule for each row of the documents' table, every metric one that a
running service has, and all of it read by the programs that it is for."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import yaml

from tests.api.service import Service
from tests.clients.program import SCRIPTS, find_python, needs
from tests.deploy.settings import get_default
from tests.serving.process import REPOSITORY

PROMETHEUS = REPOSITORY / "deploy" / "prometheus"
DASHBOARD = REPOSITORY / "deploy" / "grafana" / "ledger.json"
NAME = re.compile(r"\b(?:ledger_[a-z_]+|up)\b")
OF_PROMETHEUS = {"up"}
"""What Prometheus itself knows of what it asks."""
UNIT_SECONDS = {"minute": 60, "minutes": 60, "m": 60, "s": 1}

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="no promtool here (Debian: apt-get install prometheus)"
)


class Row(NamedTuple):
    """A row of the table of alerts: metric, condition, what to do."""

    metric: str
    condition: str
    action: str


@cache
def rows() -> list[Row]:
    text = (REPOSITORY / "docs" / "operations.md").read_text()
    table = text.partition("\n| metric | alert when | what to do |\n|---|---|---|\n")[2].partition("\n\n")[0]
    return [Row(*(cell.strip() for cell in line.strip("|").split(" | "))) for line in table.splitlines()]


@cache
def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def find_metric(expression: str) -> str:
    """The metric that a rule is about: the last one, if it says for which values of another one it holds."""
    found = NAME.findall(expression.partition(" and on ")[0])
    return re.sub(r"_bucket$", "", found[-1])


def panels() -> Iterator[dict[str, Any]]:
    yield from json.loads(DASHBOARD.read_text())["panels"]


def expressions() -> list[str]:
    """Every expression of the dashboard, with values for its variables."""
    written = [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    return [each.replace("$__rate_interval", "5m").replace("$namespace", ".*") for each in written]


@pytest.fixture(scope="module")
def metrics(shared_service: Service) -> set[str]:
    """The names of the metrics of a running service, with those of the parts of a histogram."""
    text = httpx.get(f"{shared_service.url}/metrics").text
    names = set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
    histograms = set(re.findall(r"^# TYPE (\w+) histogram$", text, re.MULTILINE))
    return names | {f"{name}_{part}" for name in histograms for part in ("bucket", "count", "sum")}


def test_each_row_of_the_table_has_its_rule_and_each_rule_its_row() -> None:
    named = [NAME.search(row.metric) for row in rows()]
    assert all(named), rows()
    in_table = sorted(match[0] for match in named if match)
    assert in_table == sorted(find_metric(rule["expr"]) for rule in rules())
    assert len(in_table) > 10


def test_a_rule_has_the_limit_and_the_time_of_its_row() -> None:
    by_metric = {find_metric(rule["expr"]): rule for rule in rules()}
    for row in rows():
        match = NAME.search(row.metric)
        assert match is not None
        rule = by_metric[match[0]]
        limit = re.search(r"> ([\d.]+)", row.condition)
        assert not limit or f" > {limit[1]}" in " ".join(rule["expr"].split()), row
        lasts = re.search(r"for (?:a|(\d+)) (minutes?)", row.condition)
        given = re.fullmatch(r"(\d+)([ms])", rule.get("for", "0s"))
        assert given is not None
        wanted = int(lasts[1] or 1) * UNIT_SECONDS[lasts[2]] if lasts else 0
        assert int(given[1]) * UNIT_SECONDS[given[2]] == wanted, row


def test_a_rule_says_how_urgent_it_is_and_what_is_wrong() -> None:
    assert len({rule["alert"] for rule in rules()}) == len(rules())
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]


def test_the_queue_alerts_before_callers_are_refused() -> None:
    expression = next(rule["expr"] for rule in rules() if "append_waiting" in rule["expr"])
    limit = int(expression.rpartition("> ")[2])
    maximum = get_default("append_queue_max")
    assert maximum / 2 < limit < maximum


def test_every_metric_of_rules_and_dashboard_is_one_of_a_running_service(metrics: set[str]) -> None:
    # The label of a job is the name of none.
    texts = [rule["expr"] for rule in rules()] + expressions()
    used = {name for text in texts for name in NAME.findall(re.sub(r'"[^"]*"', '""', text))}
    assert used - OF_PROMETHEUS <= metrics
    # What is measured is shown, and what is tested is alerted on.
    shown = {name for text in expressions() for name in NAME.findall(re.sub(r'"[^"]*"', '""', text))}
    bases = {re.sub(r"_(bucket|count|sum)$", "", name) for name in shown}
    alerted = {find_metric(rule["expr"]) for rule in rules()} - OF_PROMETHEUS
    assert alerted <= bases


OTHERS = {"ledger_api", "ledger_projector", "ledger_analyst", "ledger_account", "ledger_feed"}
"""Names like those of metrics that are roles of the database, parameters, or scopes."""


def test_every_metric_that_documents_name_is_one_of_a_running_service(metrics: set[str]) -> None:
    of_a_witness = set(NAME.findall((REPOSITORY / "ledger" / "witness" / "app.py").read_text()))
    unknown: dict[str, str] = {}
    for file in [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]:
        named = set(re.findall(r"`(ledger_[a-z_]+)(?:\{[^`]*\})?`", file.read_text()))
        unknown |= dict.fromkeys(named - OTHERS - metrics - of_a_witness, str(file.relative_to(REPOSITORY)))
    assert unknown == {}


@needs_promtool
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "alerts.yml"),
        ("check", "config", "prometheus.yml"),
        ("test", "rules", "alerts.test.yml"),
    ],
    ids=["rules", "configuration", "tests"],
)
def test_prometheus_accepts_the_rules_and_they_do_what_they_say(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        ["promtool", *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_rule_is_tested() -> None:
    tests = yaml.safe_load((PROMETHEUS / "alerts.test.yml").read_text())["tests"]
    tested = {each["alertname"] for test in tests for each in test.get("alert_rule_test", ())}
    assert tested == {rule["alert"] for rule in rules()}


@needs_promtool
def test_prometheus_reads_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    recorded = [{"record": f"panel:{n}", "expr": each} for n, each in enumerate(expressions())]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))
    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(expressions())} rules found" in done.stdout


@needs("grafana-foundation-sdk")
def test_grafana_understands_all_of_the_dashboard() -> None:
    command = [find_python("grafana-foundation-sdk"), SCRIPTS / "read_dashboard.py", DASHBOARD]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert list(find_lost(json.loads(DASHBOARD.read_text()), json.loads(done.stdout))) == []


def find_lost(written: Any, understood: Any, place: str = "") -> Iterator[str]:
    """What is missing or different in the second value; it may have more than the first."""
    if isinstance(written, dict) and isinstance(understood, dict):
        for name, value in written.items():
            yield from find_lost(value, understood.get(name), f"{place}/{name}")
    elif isinstance(written, list) and isinstance(understood, list) and len(written) == len(understood):
        for n, (value, other) in enumerate(zip(written, understood, strict=True)):
            yield from find_lost(value, other, f"{place}/{n}")
    elif written != understood:
        yield f"{place}: {written!r} became {understood!r}"


def test_the_dashboard_has_a_row_for_each_part_and_no_panel_lies_on_another() -> None:
    titles = [panel["title"] for panel in panels() if panel["type"] == "row"]
    assert titles == ["Requests", "Append", "Projections", "Webhooks", "Sealing and witnesses", "Resources"]
    places: set[tuple[int, int]] = set()
    for panel in panels():
        at = panel["gridPos"]
        covered = {
            (x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
        }
        assert not covered & places, panel["title"]
        places |= covered
    assert max(x for x, _ in places) < 24
