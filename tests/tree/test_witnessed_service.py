"""A whole service with a witness: its checkpoints are cosigned, served, measured and copied to a file."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx

from ledger.postgres.connections import open_connection
from ledger.tlog.cosignatures import verify_cosignatures
from ledger.tlog.keys import VerifierKey
from ledger.tlog.notes import parse_note
from ledger.tree.keys import Keyring, list_keys
from ledger.tree.sealer import Sealer
from tests.api.service import SERVICE_KEY, Account, Caller, Registrar, Service, assert_refused
from tests.internal.conftest import InternalClient
from tests.store.stores import open_store
from tests.webhooks.receiver import wait_until
from tests.witness.server import WitnessProcess, run_witness


async def make_log_key(dsn: str) -> VerifierKey:
    """As the first start of the service does: the witness has to know the key."""
    async with open_store(dsn) as store, open_connection(dsn, "ledger_api", name="test") as conn:
        sealer = Sealer(store, Keyring(SERVICE_KEY.encode()), pause_ms=1, checkpoint_seconds=60)
        await sealer.seal()
        await sealer.close()
        return (await list_keys(conn))[0].verifier


def read_metric(service: Service, name: str, witness: str) -> float | None:
    prefix = f'{name}{{witness="{witness}"}} '
    lines = httpx.get(f"{service.url}/metrics").text.splitlines()
    return next((float(line.removeprefix(prefix)) for line in lines if line.startswith(prefix)), None)


def check_service(service: Service, witness: WitnessProcess, file: Path, account: Account, key: str) -> None:
    (witness_key,) = witness.keys
    witness_id = f"{witness_key.name}+{witness_key.key_id.hex()}"
    with httpx.Client(base_url=service.url, timeout=30) as http:
        operator = InternalClient(http, key)
        none = operator.get("/audit/checkpoint?cosigned=true")
        assert_refused(none, 404, code="resource_missing", param="cosigned", message="no witness has")
        for _ in range(3):
            Caller(http, account.secret).customer(name="Jenny Rosen")
        wait_until(lambda: read_metric(service, "ledger_witness_size", witness_id) == 3)
        assert read_metric(service, "ledger_witness_behind_seconds", witness_id) == 0
        assert read_metric(service, "ledger_witness_contradicts", witness_id) == 0

        served = operator.get("/audit/checkpoint?cosigned=true")
        assert served.status_code == 200
        assert [*verify_cosignatures(parse_note(served.text), witness.keys)] == witness.keys
        assert operator.get("/audit/checkpoint?size=3").text == served.text
        assert operator.get("/audit/checkpoints").json()["data"][0]["cosignatures"] == 1
        assert operator.get("/audit/witnesses").json()["data"] == [
            {
                "id": witness_id,
                "name": witness_key.name,
                "keys": [str(witness_key)],
                "size": 3,
                "state": "cosigns",
                "reason": None,
                "behind_seconds": 0,
            }
        ]
        wait_until(lambda: file.exists() and file.read_text() == served.text)
        both = operator.get("/audit/checkpoint?size=3&cosigned=true")
        assert_refused(both, param="cosigned", message="Pass only one of size and cosigned")
        proof = operator.get("/audit/proof/1.tlog-proof").text
        assert f"\n\N{EM DASH} {witness_key.name} " in proof


def test_a_service_is_cosigned_and_shows_it(dsn: str, tmp_path: Path) -> None:
    log_key = asyncio.run(make_log_key(dsn))
    registrar, file = Registrar(dsn), tmp_path / "checkpoint"
    account = registrar.account()
    key = registrar.key(account.id, "rk", scopes=["audit"])[1]
    registrar.close()
    with run_witness(tmp_path, [log_key]) as witness:
        service = Service(
            dsn,
            tmp_path,
            LEDGER_WITNESSES=f"{witness.keys[0]}={witness.url}",
            LEDGER_CHECKPOINT_SECONDS="1",
            LEDGER_CHECKPOINT_FILE=str(file),
        )
        check_service(service, witness, file, account, key)
        as_json = json.loads(service.run_command("audit", "witnesses", "--json"))
        assert (as_json["data"][0]["name"], as_json["data"][0]["size"]) == (witness.keys[0].name, 3)
        listed = service.run_command("audit", "witnesses")
        assert listed.splitlines()[1].split("\t")[1:] == ["3", "0.0", "cosigns", ""]
        service.stop()
        assert service.log.count('"event":"witness_cosigns"') == 1, "one line a change of state"
