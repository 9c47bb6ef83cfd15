"""Another release beside this one: a copy of the sources with an example's changes made to it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from ledger.postgres.migrations import release_version
from tests.serving.process import REPOSITORY

EXAMPLES = REPOSITORY / "examples"
_SOURCES = ("ledger", "projections", "alembic", "tests/domain", "tests/golden")


def create_release(patch: Path, directory: Path) -> Path:
    """This release as `patch`, a unified diff, changes it, in `directory`."""
    for source in _SOURCES:
        shutil.copytree(REPOSITORY / source, directory / source, ignore=shutil.ignore_patterns("__pycache__"))
    for change in re.split(r"^--- .*\n", patch.read_text(), flags=re.MULTILINE)[1:]:
        file, *hunks = re.split(r"^@@.*\n", change, flags=re.MULTILINE)
        _apply_hunks(directory / file.removeprefix("+++ b/").strip(), hunks)
    return directory


def add_migration(release: Path, file: Path) -> str:
    """Make `file` the release's next migration, whatever its number was; the schema version it makes."""
    last = max(path.name for path in release.glob("alembic/versions/[0-9]*.py"))[:4]
    number = f"{int(last) + 1:04}"
    text = re.sub(r'^revision = ".*"', f'revision = "{number}"', file.read_text(), flags=re.MULTILINE)
    text = re.sub(r'^down_revision = ".*"', f'down_revision = "{last}"', text, flags=re.MULTILINE)
    # What it says of its neighbours moves with it.
    shift = int(number) - int(file.name[:4])
    text = re.sub(r"oldest = '(\d+)'", lambda match: f"oldest = '{int(match[1]) + shift:04}'", text)
    (release / "alembic" / "versions" / f"{number}{file.name[4:]}").write_text(text)
    assert number > release_version()
    return number


def _apply_hunks(file: Path, hunks: list[str]) -> None:
    text = file.read_text() if file.exists() else ""
    for hunk in hunks:
        lines = [line for line in hunk.splitlines(keepends=True) if not line.startswith("\\")]
        before = "".join(line[1:] for line in lines if line[0] in " -")
        after = "".join(line[1:] for line in lines if line[0] in " +")
        assert text.count(before) == 1 or not text, f"{file.name}: the example no longer fits\n{hunk}"
        text = text.replace(before, after) if text else after
    file.write_text(text)
