"""`ledger audit witnesses`: who cosigns the log's checkpoints, and how far."""

from __future__ import annotations

import json
from typing import Any

from ledger.audit.tree.witnesses import list_witnesses
from ledger.cli.audit.shell import run_on_log
from ledger.cli.groups import JsonOption
from ledger.cli.shell import Deployment, print_table
from ledger.clock import Clock
from ledger.postgres.connections import Conn
from ledger.tree.witnesses.addresses import parse_witnesses


def print_witnesses(as_json: JsonOption = False) -> None:
    """List the witnesses and how far each has cosigned."""

    async def read(conn: Conn, clock: Clock, deployment: Deployment) -> dict[str, Any]:
        return await list_witnesses(conn, parse_witnesses(deployment.settings.witnesses))

    answer = run_on_log(read)
    if as_json:
        print(json.dumps(answer))
        return
    header = ("witness", "size", "behind (s)", "state", "reason")
    rows = [
        (each["id"], each["size"], f"{each['behind_seconds']:.1f}", each["state"], each["reason"] or "")
        for each in answer["data"]
    ]
    print_table(header, rows)
