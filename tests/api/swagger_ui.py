"""Swagger UI, whose files the package holds: which release they are from, and how to renew them.

`make swagger-ui` takes the release recorded in origin.json from npm and writes the files again; with
`ARGS=VERSION` another one. `test_pages.py` compares the files with what is recorded.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from ledger.api import pages

FOLDER = Path(pages.__file__).parent / "swagger_ui"
ORIGIN_FILE = FOLDER / "origin.json"
FILES = ("LICENSE", "NOTICE", "swagger-ui-bundle.js", "swagger-ui-bundle.js.LICENSE.txt", "swagger-ui.css")


def read_origin() -> Any:
    """The recorded release and the SHA-256 of each file."""
    return json.loads(ORIGIN_FILE.read_text())


def hash_files() -> dict[str, str]:
    """The SHA-256 of each file that the package holds."""
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(FOLDER.iterdir())
        if file != ORIGIN_FILE
    }


def renew(version: str) -> None:
    """Write the files of a release. A release that is recorded must have the recorded contents."""
    recorded = read_origin() if ORIGIN_FILE.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        packed = subprocess.run(
            ["npm", "pack", "--silent", f"swagger-ui-dist@{version}"],
            cwd=place,
            capture_output=True,
            text=True,
            check=True,
        )
        contents = (place / packed.stdout.strip()).read_bytes()
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(contents).digest()).decode()
        if recorded.get("version") == version and recorded["integrity"] != integrity:
            raise SystemExit(f"swagger-ui-dist {version} differs from what was recorded: {integrity}")
        with tarfile.open(place / packed.stdout.strip()) as archive:
            for file in FILES:
                member = archive.extractfile(f"package/{file}")
                assert member is not None
                (FOLDER / file).write_bytes(member.read())
    origin = {
        "package": "swagger-ui-dist",
        "registry": "npm",
        "version": version,
        "licence": "Apache-2.0",
        "integrity": integrity,
        "sha256": hash_files(),
    }
    ORIGIN_FILE.write_text(json.dumps(origin, indent=2) + "\n")


if __name__ == "__main__":
    renew(sys.argv[1] if len(sys.argv) > 1 else read_origin()["version"])
