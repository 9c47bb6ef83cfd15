"""The worked example examples/new-command: a release with one more operation passes the example's tests."""

from __future__ import annotations

from pathlib import Path

from tests.projections.releases import EXAMPLES, create_release, run_tests


def test_the_new_operation_is_decided_described_and_answered(tmp_path: Path) -> None:
    """The tests over HTTP start a service of the new release, on a database of their own."""
    release = create_release(EXAMPLES / "new-command" / "release.patch", tmp_path / "new")
    run_tests(release, "--pure", "tests/domain/test_charge_release.py")
    run_tests(release, "tests/api/test_charge_release.py", "tests/api/test_openapi.py")
