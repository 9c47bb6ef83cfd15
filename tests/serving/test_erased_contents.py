"""A file whose key is being erased gives its contents to nobody any more, at once."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx
import psycopg

from tests.serving.process import SERVICE_KEY, run_serve
from tests.serving.test_shutdown import create_secret

CONTENTS = b"\x89PNG\r\n\x1a\n" + b"what only the account may read" * 1000
LEASE_SECONDS_MAX = 5.0


def test_erased_contents_are_gone_for_keys_and_links(dsn: str, place: Path) -> None:
    settings = {"database_url": dsn, "secret_key": SERVICE_KEY, "verify_pause_seconds": 0}
    with run_serve(place / "erased", **settings) as service:
        secret = asyncio.run(create_secret(dsn))
        with httpx.Client(base_url=service.url, auth=(secret, ""), timeout=20) as http:
            upload = {"file": ("a.png", CONTENTS, "image/png")}
            file = http.post("/v1/files", data={"purpose": "dispute_evidence"}, files=upload).json()["id"]
            link = httpx.URL(http.post("/v1/file_links", data={"file": file}).json()["url"]).path
            contents = f"/v1/files/{file}/contents"
            assert http.get(contents).content == http.get(link).content == CONTENTS
            with psycopg.connect(dsn) as conn:
                conn.execute("SELECT ledger.begin_erasing(ARRAY[%s])", (file,))
            deadline = time.monotonic() + LEASE_SECONDS_MAX
            while (answer := http.get(contents)).status_code == 200 and time.monotonic() < deadline:
                time.sleep(0.05)
            assert answer.status_code == 404
            error = answer.json()["error"]
            assert (error["code"], error["param"]) == ("resource_missing", "id")
            assert error["message"] == f"The contents of '{file}' were erased."
            assert http.get(link).status_code == 404
