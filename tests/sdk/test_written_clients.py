"""The client lines of the README, of docs/api.md and of `ledger serve`, run as they stand against a real
service: they contact nothing but loopback.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from tests.node.test_node import find_missing_node
from tests.serving.process import ServeProcess, run_serve

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
API_DOCUMENT = ROOT / "docs" / "api.md"
RUN_SECONDS = 300
WRITTEN_URL = "http://127.0.0.1:4242"
# curl goes to every other host through a proxy: nothing listens there.
DEAD_PROXY = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9") | {"no_proxy": "127.0.0.1"}
# Python imports a module of this name when it starts.
GUARD = """
import sys

def refuse_other_hosts(event, arguments):
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    if host not in ("127.0.0.1", "::1", "localhost", None):
        print("CONTACTED", host, file=sys.stderr)
        sys.stderr.flush()
        raise OSError(f"contacted {host}")

sys.addaudithook(refuse_other_hosts)
"""
# Node runs it before the program.
NODE_GUARD = """
const net = require('node:net');
const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function (...given) {
  const { host = '127.0.0.1' } = Array.isArray(given[0]) ? given[0][0] : given[0];
  if (!['127.0.0.1', '::1', 'localhost'].includes(host)) {
    console.error('CONTACTED', host);
    process.exit(3);
  }
  return connect.apply(this, given);
};
"""


@pytest.fixture(scope="module")
def service() -> Iterator[ServeProcess]:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name).resolve()
        place.chmod(0o755)
        (place / "guard").mkdir()
        (place / "guard" / "sitecustomize.py").write_text(GUARD)
        with run_serve(place / ".ledger", webhook_retry_seconds_test="1,2,60") as running:
            yield running


def run_guarded(
    service: ServeProcess, *command: str, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in the folder of `.ledger`, with this environment's Python as `python3`."""
    place = service.data_dir.parent
    bin_dir = place / "bin"
    bin_dir.mkdir(exist_ok=True)
    python = bin_dir / "python3"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    environment = os.environ | {
        "PYTHONPATH": str(place / "guard"),
        "PATH": f"{bin_dir}{os.pathsep}{os.environ['PATH']}",
        **(variables or {}),
    }
    return subprocess.run(
        command,
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )


def test_the_readme_runs_as_it_stands_and_prints_what_it_shows(service: ServeProcess) -> None:
    section = re.search(r"```python\n(.*?)```\n\n((?:    [^\n]+\n)+)", README.read_text(), re.DOTALL)
    assert section is not None
    run = run_guarded(service, "python3", "-c", section[1])
    assert run.returncode == 0, run.stderr
    assert "CONTACTED" not in run.stderr
    shown = [line.strip() for line in section[2].splitlines()]

    def shape(lines: list[str]) -> list[str]:
        return [re.sub(r"\b(du|evt|req)_\w+", r"\1_", line) for line in lines]

    assert shape(run.stdout.splitlines()) == shape(shown)


def test_the_line_that_serve_prints_runs_as_it_stands(service: ServeProcess) -> None:
    line = re.search(r"python3 -c '.*?'\n", service.output, re.DOTALL)
    assert line is not None
    run = run_guarded(service, "sh", "-c", line[0])
    assert run.returncode == 0, run.stderr
    assert "CONTACTED" not in run.stderr
    assert '"object": "charge"' in run.stdout


def test_a_client_without_all_base_addresses_would_be_noticed(service: ServeProcess) -> None:
    upload = (
        "import io, stripe\n"
        f"client = stripe.StripeClient('sk_test_none', base_addresses={{'api': '{service.url}'}},"
        " max_network_retries=0)\n"
        "client.v1.files.create({'purpose': 'dispute_evidence', 'file': io.BytesIO(b'text')})\n"
    )
    run = run_guarded(service, "python3", "-c", upload)
    assert run.returncode != 0
    assert "CONTACTED files.stripe.com" in run.stderr


def list_shell_lines(text: str) -> str:
    """What a text tells to type, `    $ …` with the lines that continue it."""
    lines = re.findall(r"^    \$ ((?:[^\n]*\\\n)*[^\n]*)$", text, re.MULTILINE)
    assert lines
    return "\n".join(lines)


def run_shell(service: ServeProcess, lines: str) -> subprocess.CompletedProcess[str]:
    """Run the lines in one shell; the first that fails ends it."""
    assert set(re.findall(r"https?://[^/\s\"]+", lines)) <= {WRITTEN_URL}
    script = lines.replace(WRITTEN_URL, service.url).replace("curl -s ", "curl -sS --fail-with-body ")
    return run_guarded(service, "bash", "-euo", "pipefail", "-c", script, variables=DEAD_PROXY)


def test_the_shell_lines_of_the_readme_run_as_they_stand(service: ServeProcess) -> None:
    run = run_shell(service, list_shell_lines(README.read_text()))
    assert run.returncode == 0, run.stderr
    assert '"metadata": {\n    "tier": "gold"\n  },\n  "name": "Jenny Rosen"' in run.stdout
    elsewhere = run_guarded(
        service, "curl", "-sS", "https://api.stripe.com/v1/customers", variables=DEAD_PROXY
    )
    assert elsewhere.returncode != 0
    assert "port 9" in elsewhere.stderr


def test_an_invoice_is_published_and_read_with_the_lines_of_the_document(service: ServeProcess) -> None:
    section = API_DOCUMENT.read_text().partition("### Shown when")[2].partition("\n#")[0]
    run = run_shell(service, list_shell_lines(section))
    assert run.returncode == 0, run.stderr
    assert '"type":"invoice.paid"' in run.stdout
    assert '"object": "invoice"' in run.stdout


def test_events_are_read_with_the_lines_of_the_document(service: ServeProcess) -> None:
    key = json.loads((service.data_dir / "dev-keys.json").read_text())["secret"]
    httpx.post(f"{service.url}/v1/customers", auth=(key, ""), data={"name": "Ada"}).raise_for_status()
    section = API_DOCUMENT.read_text().partition("## Read Events")[2].partition("\n## ")[0]
    run = run_shell(service, list_shell_lines(section))
    assert run.returncode == 0, run.stderr
    *_, history = run.stdout.splitlines()
    changes = json.loads(history[history.index("{") :])["data"]
    assert [[event["type"] for event in each["events"]] for each in changes] == [["customer.created"]]


def test_the_receiver_of_the_document_shows_a_failed_delivery_and_its_retry(service: ServeProcess) -> None:
    section = API_DOCUMENT.read_text().partition("## Receive webhooks")[2].partition("\n## ")[0]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert code is not None
    (service.data_dir.parent / "receiver.py").write_text(code[1])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    lines = list_shell_lines(section).replace("8000", port).replace(f"{port} &", f"{port} >seen &")
    wait = "until [ $(wc -l <seen) -ge 2 ]; do sleep 0.1; done"
    script = f"trap 'kill $(jobs -p)' EXIT\n{lines.replace(WRITTEN_URL, service.url)}\n{wait}"
    run = run_guarded(service, "bash", "-euo", "pipefail", "-c", script, variables=DEAD_PROXY)
    assert run.returncode in (0, 143), run.stderr
    first, second = (service.data_dir.parent / "seen").read_text().splitlines()[:2]
    assert re.fullmatch(r"500 customer\.created evt_\w+", first)
    assert second == first.replace("500", "200", 1)
    assert "CONTACTED" not in run.stderr


def test_the_first_session_in_node_runs_as_it_stands(service: ServeProcess) -> None:
    if missing := find_missing_node():
        pytest.skip(missing)
    section = re.search(r"```js\n(.*?)```\n\n((?:    [^\n]+\n)+)", API_DOCUMENT.read_text(), re.DOTALL)
    assert section is not None
    place = service.data_dir.parent
    (place / "node_modules").symlink_to(ROOT / "tests" / "node" / "node_modules")
    (place / "guard.cjs").write_text(NODE_GUARD)
    (place / "session.mjs").write_text(section[1])
    run = run_guarded(service, "node", "--require", "./guard.cjs", "session.mjs")
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == section[2].split()
    (place / "wrong.mjs").write_text(section[1].replace("{ host: hostname, port, protocol: 'http' }", "{}"))
    run = run_guarded(service, "node", "--require", "./guard.cjs", "wrong.mjs")
    assert (run.returncode, run.stderr) == (3, "CONTACTED api.stripe.com\n")
