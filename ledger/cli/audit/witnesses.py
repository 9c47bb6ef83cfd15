"""`ledger audit witnesses`: who cosigns the log's checkpoints, and how far."""

from __future__ import annotations

import json

from ledger.cli.audit.shell import run_on_log
from ledger.cli.groups import JsonOption
from ledger.cli.shell import print_table
from ledger.tree.witnesses.cosignatures import read_witnesses


def print_witnesses(as_json: JsonOption = False) -> None:
    """List the witnesses and how far each has cosigned."""
    witnesses = run_on_log(lambda conn, *_: read_witnesses(conn))
    if as_json:
        print(json.dumps([each._asdict() for each in witnesses]))
        return
    header = ("witness", "size", "behind (s)", "state", "reason")
    print_table(
        header,
        [
            (each.witness, each.size, f"{each.behind_seconds:.1f}", each.state, each.reason or "")
            for each in witnesses
        ],
    )
