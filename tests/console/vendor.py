"""The libraries of the console, whose files the package holds: their releases, and how to renew them.

`make console-vendor` takes the releases recorded in origin.json from npm and writes the files again; with
`ARGS=preact@11.3.0` another release of one of them. A browser resolves no bare names, so imports between the
libraries become relative; nothing else changes. `test_vendor.py` compares the files with what is recorded.
The .d.ts beside them are ours: they say where the types of each are.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ledger.api import console

FOLDER = Path(console.__file__).parent / "static" / "vendor"
ORIGIN_FILE = FOLDER / "origin.json"
# By package: which of its files are kept, and their names here.
FILES: Mapping[str, Mapping[str, str]] = {
    "preact": {
        "dist/preact.mjs": "preact.js",
        "hooks/dist/hooks.mjs": "hooks.js",
        "LICENSE": "licences/preact.txt",
    },
    "@preact/signals-core": {
        "dist/signals-core.mjs": "signals-core.js",
        "LICENSE": "licences/signals-core.txt",
    },
    "@preact/signals": {"dist/signals.mjs": "signals.js", "LICENSE": "licences/signals.txt"},
    "htm": {"dist/htm.mjs": "htm.js", "LICENSE": "licences/htm.txt"},
    "uplot": {
        "dist/uPlot.iife.min.js": "uplot.js",
        "dist/uPlot.min.css": "uplot.css",
        "LICENSE": "licences/uplot.txt",
    },
}
IMPORTED = {
    "preact": "./preact.js",
    "preact/hooks": "./hooks.js",
    "@preact/signals-core": "./signals-core.js",
}


def read_origin() -> dict[str, Any]:
    """By package: the recorded release, its licence and integrity, and the SHA-256 of each file here."""
    origin: dict[str, Any] = json.loads(ORIGIN_FILE.read_text())
    return origin


def hash_files() -> dict[str, str]:
    """The SHA-256 of each file that the package holds."""
    return {
        str(file.relative_to(FOLDER)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(FOLDER.rglob("*"))
        if file.is_file() and file != ORIGIN_FILE and not file.name.endswith(".d.ts")
    }


def adapt(name: str, contents: bytes) -> bytes:
    """A file as a browser can load it by itself: relative imports, no reference to a source map that is not
    here. The only small build of uPlot makes a global variable, so it is given an export."""
    if not name.endswith(".js"):
        return contents
    text = re.sub(r"\n?//# sourceMappingURL=.*\n?", "\n", contents.decode())
    text = re.sub(r'from"([^".][^"]*)"', lambda found: f'from"{IMPORTED[found[1]]}"', text)
    if name == "uplot.js":
        text = text.rstrip("\n") + "\nexport default uPlot;\n"
    return text.encode()


def renew(package: str, version: str, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Write the files of a release. A release that is recorded must have the recorded contents."""
    with tempfile.TemporaryDirectory() as place:
        packed = subprocess.run(
            ["npm", "pack", "--silent", f"{package}@{version}"],
            cwd=place,
            capture_output=True,
            text=True,
            check=True,
        )
        contents = (Path(place) / packed.stdout.strip()).read_bytes()
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(contents).digest()).decode()
    if recorded.get("version") == version and recorded["integrity"] != integrity:
        raise SystemExit(f"{package} {version} differs from what was recorded: {integrity}")
    hashes = {}
    with tarfile.open(fileobj=io.BytesIO(contents)) as archive:
        for source, name in FILES[package].items():
            member = archive.extractfile(f"package/{source}")
            assert member is not None
            adapted = adapt(name, member.read())
            (FOLDER / name).parent.mkdir(parents=True, exist_ok=True)
            (FOLDER / name).write_bytes(adapted)
            hashes[name] = hashlib.sha256(adapted).hexdigest()
        described = archive.extractfile("package/package.json")
        assert described is not None
        licence = json.load(described)["license"]
    return {"version": version, "licence": licence, "integrity": integrity, "sha256": hashes}


def main(*wanted: str) -> None:
    """Write all files again, those of `wanted` ("NAME@VERSION") from another release."""
    versions = dict(each.rsplit("@", 1) for each in wanted)
    unknown = versions.keys() - FILES.keys()
    if unknown:
        raise SystemExit(
            f"not a library of the console: {', '.join(sorted(unknown))}; they are {', '.join(FILES)}"
        )
    recorded = read_origin() if ORIGIN_FILE.exists() else {}
    origin = {
        package: renew(
            package, versions.get(package) or recorded[package]["version"], recorded.get(package, {})
        )
        for package in FILES
    }
    ORIGIN_FILE.write_text(json.dumps(origin, indent=2) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
