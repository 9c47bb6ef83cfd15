"""`ledger witness` over HTTP: requests and answers byte for byte, limits, status, and its death."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from ledger.tlog.keys import SignerKey
from ledger.tlog.notes import parse_note, verify_note
from ledger.witness import app
from tests.api.service import ROOT
from tests.witness.logs import ORIGIN, SIGNER, SampleLog
from tests.witness.server import WitnessProcess, open_witness, run_witness

EM_DASH = "\N{EM DASH}"
# The example of C2SP tlog-checkpoint, whose log no witness here knows.
FOREIGN = f"""old 20852014
PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=
5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=
/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=

example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

{EM_DASH} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
"""  # noqa: E501


@pytest.fixture(scope="module")
def witness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WitnessProcess]:
    """A witness of as many logs as there are tests here, and one key for each."""
    keys = [SignerKey.make(f"log.example/{number}", bytes(32)).verifier for number in range(4)]
    with run_witness(tmp_path_factory.mktemp("witness"), keys, "--name", "witness.example/1") as witness:
        yield witness


@pytest.fixture(scope="module")
def http(witness: WitnessProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=witness.url, timeout=30) as http:
        yield http


def post(http: httpx.Client, body: bytes) -> tuple[int, str, str]:
    response = http.post("/add-checkpoint", content=body)
    return response.status_code, response.headers["content-type"], response.text


def test_each_answer_has_the_status_and_the_form_of_the_protocol(
    http: httpx.Client, witness: WitnessProcess
) -> None:
    log, fork = SampleLog("abcde"), SampleLog("abcdX")
    forged = SampleLog("abcde", SignerKey.make(ORIGIN, bytes([1] * 32)))
    status, _, lines = post(http, log.submit(0))
    assert status == 200
    assert lines.startswith(f"{EM_DASH} witness.example/1 ")
    assert lines.endswith("\n")
    assert verify_note(parse_note(log.sign() + lines), witness.keys) == witness.keys
    text = "text/plain; charset=utf-8"
    assert post(http, log.submit(0)) == (409, "text/x.tlog.size", "5\n")
    assert post(http, fork.submit(5))[:2] == (422, text)
    assert post(http, forged.submit(5))[:2] == (403, text)
    assert post(http, FOREIGN.encode())[:2] == (404, text)
    assert post(http, log.submit(6))[:2] == (400, text)
    assert post(http, b"nonsense")[:2] == (400, text)
    assert '"kind":"fork"' in witness.log
    assert '"level":"error"' in witness.log


def test_the_last_checkpoint_and_the_status_are_served(http: httpx.Client, witness: WitnessProcess) -> None:
    signer = SignerKey.make("log.example/2", bytes(32))
    log = SampleLog("abc", signer)
    assert http.get(f"/{'0' * 64}/checkpoint").status_code == 404
    address = f"/{sha256(b'log.example/2').hexdigest()}/checkpoint"
    assert http.get(address).status_code == 404
    lines = http.post("/add-checkpoint", content=log.submit(0)).text
    assert http.get(address).text == log.sign() + lines
    document = http.get("/").json()
    assert document["keys"] == [str(key) for key in witness.keys]
    assert document["logs"][2] == {
        "origin": "log.example/2",
        "size": 3,
        "evidence": {"fork": 0, "rollback": 0, "inconsistent": 0},
    }
    metrics = http.get("/metrics").text
    assert 'ledger_witnessed_size{origin="log.example/2"} 3.0' in metrics
    assert 'ledger_witness_evidence{kind="rollback",origin="log.example/2"} 0.0' in metrics
    assert [http.get(path).status_code for path in ("/add-checkpoint", "/nowhere")] == [405, 404]
    assert http.post("/").status_code == 404


def test_a_body_without_end_is_refused(http: httpx.Client) -> None:
    response = http.post("/add-checkpoint", content=(b"old 0\n" * 1000 for _ in range(1000)))
    assert response.status_code == 413


def test_a_body_that_does_not_come_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "BODY_SECONDS_MAX", 0.1)
    with open_witness(tmp_path, {ORIGIN: [SIGNER.verifier]}) as witness:
        host, port = witness.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as sock:
            sock.sendall(
                b"POST /add-checkpoint HTTP/1.1\r\nHost: witness\r\nContent-Length: 100\r\n\r\nold 0\n"
            )
            answer = b"".join(iter(lambda: sock.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_witness_that_dies_before_it_answers_cosigns_no_other_tree(tmp_path: Path) -> None:
    log, fork = SampleLog("abcde"), SampleLog("abXYZ")
    with run_witness(tmp_path, [SIGNER.verifier]) as witness:
        assert httpx.post(f"{witness.url}/add-checkpoint", content=log.submit(0, 2)).status_code == 200
        keys = witness.keys
    dying = WitnessProcess(tmp_path, [SIGNER.verifier], dies_after_write=True)
    with pytest.raises(httpx.TransportError):
        httpx.post(f"{dying.url}/add-checkpoint", content=log.submit(2))
    assert dying.wait() == -9
    with (
        run_witness(tmp_path, [SIGNER.verifier]) as witness,
        httpx.Client(base_url=witness.url, timeout=30) as http,
    ):
        assert witness.keys == keys
        assert post(http, fork.submit(2)) == (409, "text/x.tlog.size", "5\n")
        assert post(http, fork.submit(5))[0] == 422
        assert post(http, log.submit(5))[0] == 200, "the log asks again"


def test_the_keys_are_printed_before_the_first_start(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ledger", "witness", "--data", str(tmp_path / "witness")]
    printed = [
        subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for arguments in (["--print-key"], ["--print-key", "--ml-dsa"])
    ]
    first, both = (text.splitlines() for text in printed)
    assert both[:1] == first
    assert len(both) == 2
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stderr) == (1, "ledger: --log: a witness has 1 to 1000 logs, not 0\n")
