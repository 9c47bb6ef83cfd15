"""`ledger import`: a file with a byte order mark, and how often a repeated import reads."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from pathlib import Path
from typing import Any

import pytest

from ledger.cli.import_file import run_import
from ledger.config import load_settings
from ledger.postgres.statements import StatementPool
from tests.api.service import Registrar
from tests.conftest import Cluster
from tests.internal.test_import import create_story
from tests.serving.process import SERVICE_KEY

GROUPS = 5
STORIES = GROUPS * 256 // 4


def test_a_repeated_file_reads_a_few_times_for_each_group(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, reads = tmp_path / "lines.ndjson", 0
    lines = [json.dumps(line) for number in range(STORIES) for line in create_story(str(number))]
    file.write_bytes(BOM_UTF8 + "\n".join(lines).encode())
    fetch = StatementPool.fetch

    async def count_and_fetch(self: StatementPool, *arguments: Any) -> Any:
        nonlocal reads
        reads += 1
        return await fetch(self, *arguments)

    with cluster.create_database() as dsn:
        registrar = Registrar(dsn)
        account = registrar.account().id
        registrar.close()
        settings = load_settings(database_url=dsn, secret_key=SERVICE_KEY, data_dir=tmp_path)
        first = run_import(settings, file, account, livemode=False)
        assert (first.changed_count, first.refused_count) == (len(lines), 0)
        monkeypatch.setattr(StatementPool, "fetch", count_and_fetch)
        again = run_import(settings, file, account, livemode=False)
        assert (again.line_count, again.changed_count, again.refused_count) == (len(lines), 0, 0)
    assert reads < 10 * (GROUPS + 1)
