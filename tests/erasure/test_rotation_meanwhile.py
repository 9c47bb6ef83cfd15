"""Persons are erased while the service key is being replaced: both end, and no key of them comes back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ledger.erasure.records import Step
from tests.erasure.persons import Persons
from tests.keys.deployment import NEW_ID, OLD, OLD_ID, count_wraps, list_states
from tests.serving.process import build_environment, run_serve
from tests.serving.test_secret_rotation import BOTH, QUICK, halted_rotation

STEPS = (Step.CLOSURE, Step.REMNANTS, Step.REPLIES, Step.KEYS, Step.ROWS)
"""Those that open, look for or destroy keys, and one after them."""
ERASED = [f"cus_{step}" for step in STEPS]
CHARGES = 1000
"""Of the first person: some thousand events."""
SETTINGS = BOTH | QUICK
OTHERS = {f"cus_{number:04}": 0 for number in range(1000)}


@pytest.fixture
def persons(dsn: str, tmp_path: Path) -> Persons:
    """Persons whose keys are wrapped under the old service key."""
    tmp_path.chmod(0o755)
    persons = Persons(dsn, tmp_path, secret_key=OLD.decode())
    persons.plant({ERASED[0]: CHARGES} | dict.fromkeys(ERASED[1:], 3) | OTHERS)
    return persons.through(dsn, **SETTINGS)


def test_persons_are_erased_while_the_service_key_is_replaced(persons: Persons) -> None:
    """The rotation is killed half done. Then the erasures begin, and while one is in each step the rotation
    goes on to its end."""
    serving: dict[str, Any] = {"database_url": persons.dsn, **SETTINGS}
    with (
        run_serve(persons.folder / "one", **serving) as service,
        run_serve(persons.folder / "two", **serving),
    ):
        environment = build_environment(persons.folder / "cli", **serving)
        with halted_rotation(persons.dsn, environment):
            pass
        wraps = count_wraps(persons.dsn)
        assert wraps["data_keys", OLD_ID] > 0 < wraps["data_keys", NEW_ID]
        with persons.erase_as_far_as(ERASED, STEPS) as jobs:
            assert json.loads(persons.run("secrets", "rotate", "--json"))["retired"] == [OLD_ID]
            assert {key_id for _, key_id in count_wraps(persons.dsn)} == {NEW_ID}
        for job in jobs:
            persons.wait_until_erased(job)
        assert list_states(persons.dsn) == {OLD_ID: "retired", NEW_ID: "current"}
        assert persons.list_keys(*ERASED) == []
        persons.check_certificate(jobs[0])
        persons.check_shown(service.url, persons.create_secret(), *ERASED)
