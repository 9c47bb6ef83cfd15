"""deploy/patroni: what its files say, and that they fit together. tests/ha runs them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.settings import KNOWN
from tests.serving.process import REPOSITORY

PLACE = REPOSITORY / "deploy" / "patroni"
NODES = ("node1", "node2", "node3")


@cache
def read(name: str) -> Any:
    return yaml.safe_load((PLACE / name).read_text())


def test_three_nodes_differ_in_their_names_and_addresses_alone() -> None:
    services = read("compose.yaml")["services"]
    environments = []
    for name in NODES:
        environment = dict(services[name]["environment"])
        assert environment.pop("PATRONI_NAME") == name
        assert environment.pop("PATRONI_RESTAPI_CONNECT_ADDRESS") == f"{name}:8008"
        assert environment.pop("PATRONI_POSTGRESQL_CONNECT_ADDRESS") == f"{name}:5432"
        assert services[name]["volumes"] == [f"{name}:/data"]
        environments.append(environment)
    assert environments[0] == environments[1] == environments[2]


def test_the_files_hold_no_password() -> None:
    for file in PLACE.iterdir():
        for line in re.findall(r"^.*(?:PASSWORD|SECRET)\w*: .*$", file.read_text(), re.MULTILINE):
            assert line.lstrip().startswith("#") or "${" in line, line
    assert "password:" not in (PLACE / "patroni.yml").read_text()


def test_every_secret_of_the_compose_file_is_made_by_its_comment() -> None:
    text = (PLACE / "compose.yaml").read_text()
    names = re.search(r"for name in ([\w ]+);", text)
    assert names is not None
    assert set(re.findall(r"\$\{(\w+):\?", text)) == set(names[1].split())


def test_compose_publishes_one_local_port_and_sets_only_known_settings() -> None:
    services = read("compose.yaml")["services"]
    assert {name for name, each in services.items() if "ports" in each} == {"api"}
    owner = {"LEDGER_OWNER_PASSWORD"}  # of create-ledger-database
    for each in services.values():
        settings = {name for name in each.get("environment", {}) if name.startswith("LEDGER_")}
        assert settings <= KNOWN | owner


def test_no_commit_is_acknowledged_by_one_node_alone() -> None:
    dcs = read("patroni.yml")["bootstrap"]["dcs"]
    assert dcs["synchronous_mode"] == "quorum"
    assert dcs["synchronous_mode_strict"] is True
    assert dcs["failsafe_mode"] is True
    assert dcs["loop_wait"] + 2 * dcs["retry_timeout"] <= dcs["ttl"]
    assert "synchronous_commit" not in dcs["postgresql"]["parameters"]


def test_haproxy_leads_to_the_nodes_of_the_compose_file_and_ends_sessions_of_a_lost_one() -> None:
    text = (PLACE / "haproxy.cfg").read_text()
    assert set(re.findall(r"presetenv NODE\d (\w+):5432", text)) == set(NODES)
    assert "on-marked-down shutdown-sessions" in text
    assert re.findall(r"uri (/\w+)", text) == ["/primary", "/replica"]


def test_haproxy_accepts_its_configuration() -> None:
    program = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("no HAProxy here (Debian: apt-get install haproxy)")
    environment = {f"NODE{number}": f"127.0.0.1:{5430 + number}" for number in (1, 2, 3)}
    checked = subprocess.run(
        [program, "-c", "-f", str(PLACE / "haproxy.cfg")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stderr


def test_every_package_has_a_version_and_hashes() -> None:
    text = (PLACE / "requirements.txt").read_text()
    assert "://" not in text
    for entry in re.split(r"\n(?=\S)", text.strip()):
        assert re.match(r"[a-z0-9-]+==\S+ .*\n    --hash=sha256:", entry), entry[:80]


def test_the_documents_name_the_pinned_release() -> None:
    pinned = re.search(r"^patroni==(\S+)", (PLACE / "requirements.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    for document in (Path("docs/compatibility.md"), Path("docs/high-availability.md")):
        assert re.search(rf"Patroni.*\b{re.escape(pinned[1])}\b", (REPOSITORY / document).read_text()), (
            document
        )
