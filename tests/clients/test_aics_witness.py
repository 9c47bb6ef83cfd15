"""aics-witness, another witness of the same protocol: it cosigns our checkpoints and refuses a rewritten log,
and its client has a log cosigned by our witness."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from ledger.tlog.cosignatures import verify_cosignatures
from ledger.tlog.keys import SignerKey, VerifierKey
from ledger.tree.witnesses.addresses import WitnessAddress, parse_witnesses
from ledger.tree.witnesses.cosignatures import WitnessState
from ledger.witness.storage import EvidenceKind
from tests.clients.program import INSTALLED, SCRIPTS, build_environment, find_python, needs, run_to_success
from tests.conftest import Cluster
from tests.tree.witnessed import NEVER_ASKED_AGAIN, SealedLog, open_follower, open_log
from tests.witness.server import open_witness

PROGRAM = "aics-witness"
pytestmark = needs(PROGRAM)
WITNESS = INSTALLED / PROGRAM / "bin" / "aics-witness"


@contextmanager
def run_foreign_witness(place: Path, log_key: VerifierKey) -> Iterator[WitnessAddress]:
    """The program, trusting one log, as a log configures it."""

    def call(*arguments: str) -> str:
        return run_to_success([WITNESS, *arguments], place, {})

    key = call("init", "--name", "foreign.example/w1").split()[-1]
    call("add-log", "--origin", log_key.name, "--vkey", str(log_key))
    with (place / "log").open("w") as log:
        process = subprocess.Popen(
            [WITNESS, "serve", "--listen", "127.0.0.1:0"],
            cwd=place, env=build_environment(place, {}), stderr=subprocess.PIPE, stdout=log, text=True,
        )  # fmt: skip
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if url := re.search(r"listening on (http://\S+)", line):
                break
        assert url is not None
        (address,) = parse_witnesses(f"{key}={url[1]}")
        yield address
    finally:
        process.terminate()
        process.communicate(timeout=20)


def test_it_cosigns_a_growing_log_and_refuses_a_rewritten_one(
    dsn: str, cluster: Cluster, tmp_path: Path
) -> None:
    async def begin() -> VerifierKey:
        async with open_log(dsn) as log:
            await log.grow(5)
            return await log.key()

    async def follow(log: SealedLog, witness: WitnessAddress) -> None:
        async with open_follower(log, witness) as follower:
            for growth in (0, 1, 2, 250, 300):
                size = await log.grow(growth) if growth else 5
                await follower.advance()
                assert await log.states() == [(size, WitnessState.COSIGNS, None)]
                assert list(verify_cosignatures(await log.newest_note(), witness.keys)) == [*witness.keys]

    async def go_on(witness: WitnessAddress, backup: str) -> None:
        async with open_log(dsn) as log:
            await follow(log, witness)
        async with open_log(backup) as log, open_follower(log, witness) as follower:
            await log.grow(600)
            assert await follower.advance() is NEVER_ASKED_AGAIN
            assert (await log.states())[0][1] == WitnessState.CONTRADICTS

    log_key = asyncio.run(begin())
    template = str(psycopg.conninfo.conninfo_to_dict(dsn)["dbname"])
    with run_foreign_witness(tmp_path, log_key) as witness, cluster.create_database(template) as backup:
        asyncio.run(go_on(witness, backup))
        evidence = json.loads(run_to_success([WITNESS, "evidence"], tmp_path, {}))
    assert log_key.name in json.dumps(evidence)


def test_its_client_has_a_log_cosigned_by_our_witness(tmp_path: Path) -> None:
    signer = SignerKey.make("feeder.example", bytes(range(32)))
    with open_witness(tmp_path / "witness", {signer.name: [signer.verifier]}) as witness:
        output = run_to_success(
            [
                find_python(PROGRAM),
                SCRIPTS / "aics_witness_feeder.py",
                witness.url,
                str(witness.keys[0]),
                signer.seed.hex(),
            ],
            tmp_path,
            {},
        )
        (status,) = witness.witness.list_logs()
    assert json.loads(output) == {"cosigned": [1, 2, 3, 7, 64, 64, 300], "refused": 422}
    assert (status.size, status.evidence[EvidenceKind.INCONSISTENT]) == (300, 1)
