"""The TypeScript library's examples, against a real service: what they apply is the log, whatever fails.

The library is compiled strictly, against the platform's types alone.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.api.service import ROOT
from tests.clients.program import INSTALLED, find_node, run_to_success
from tests.feed_clients import programs
from tests.feed_clients.answers import END, ITEM, PASSING, REFUSED, Answer, open_server
from tests.feed_clients.ledger import ConsumerDatabase, RestartableLedger
from tests.feed_clients.programs import Program

LIBRARY = ROOT / "clients" / "typescript" / "ledger-feed"
BUILD = INSTALLED / "ledger-feed"
LOCK = LIBRARY / "package-lock.json"

STAMP = BUILD / ".installed"
pytestmark = pytest.mark.skipif(
    not STAMP.exists() or STAMP.read_text() != LOCK.read_text(),
    reason="the compiler of ledger-feed is not here, or in another release: make clients",
)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Node, and the library compiled."""
    node = find_node()
    recipe = ["make", "--silent", "--no-print-directory", "-C", str(ROOT / "clients"), f"FEED={BUILD}"]
    # The release that is installed is the one of the lock file, which may be younger than it.
    installed = f"--old-file={STAMP}"
    run_to_success([*recipe, installed, "feed"], tmp_path_factory.mktemp("home"), {})
    return node


def make_program(
    node: str, name: str, ledger: RestartableLedger, database: ConsumerDatabase, place: Path
) -> Program:
    settings = {
        "API_URL": ledger.service.url,
        "API_FEED_KEY": ledger.feed_key,
        "DATABASE_URL": database.url,
    }
    return Program([node, str(BUILD / "build" / f"{name}.js")], settings, place)


@pytest.fixture
def event_counts(node: str, ledger: RestartableLedger, database: ConsumerDatabase, tmp_path: Path) -> Program:
    return make_program(node, "event-counts", ledger, database, tmp_path)


@pytest.mark.parametrize("transport", ["ndjson", "sse"])
def test_fifty_cuts_three_kills_and_a_restart_lose_and_double_nothing(
    event_counts: Program, ledger: RestartableLedger, database: ConsumerDatabase, transport: str
) -> None:
    program = event_counts.with_settings(FEED_TRANSPORT=transport)
    programs.check_that_failures_lose_and_double_nothing(program, ledger, database)


def test_two_instances_of_a_consumer_apply_each_event_once(
    event_counts: Program, ledger: RestartableLedger, database: ConsumerDatabase
) -> None:
    programs.check_that_failures_lose_and_double_nothing(event_counts, ledger, database, instances=2, cuts=10)


def test_two_instances_may_start_at_once(
    event_counts: Program, ledger: RestartableLedger, database: ConsumerDatabase
) -> None:
    programs.check_that_instances_may_start_at_once(event_counts, ledger, database)


def test_a_consumer_applies_only_what_follows_the_locked_position(
    event_counts: Program, ledger: RestartableLedger, database: ConsumerDatabase
) -> None:
    programs.check_that_only_what_follows_the_locked_position_is_applied(event_counts, ledger, database)


def test_a_wrong_address_is_told_and_tried_again(event_counts: Program) -> None:
    programs.check_that_a_wrong_address_is_told(event_counts)


def test_a_refused_key_ends_a_consumer_with_the_service_s_words(
    event_counts: Program, ledger: RestartableLedger, database: ConsumerDatabase
) -> None:
    programs.check_that_a_refused_key_ends_it_with_the_service_s_words(event_counts, ledger, database)


def test_a_replaced_log_ends_a_consumer_and_changes_nothing(
    event_counts: Program, ledger: RestartableLedger, database: ConsumerDatabase
) -> None:
    programs.check_that_a_replaced_log_ends_it_and_changes_nothing(event_counts, ledger, database)


def test_another_filter_ends_a_consumer(
    event_counts: Program, ledger: RestartableLedger, database: ConsumerDatabase
) -> None:
    programs.check_that_another_filter_ends_it(event_counts, ledger, database)


def test_the_inbox_tells_another_system_of_each_dispute(
    node: str, ledger: RestartableLedger, database: ConsumerDatabase, tmp_path: Path
) -> None:
    program = make_program(node, "dispute-notices", ledger, database, tmp_path)
    programs.check_that_the_inbox_tells_another_system_of_each_dispute(program, ledger, database)


def run_script(node: str, script: str, url: str) -> str:
    """What a script prints that uses the library."""
    command = [node, "--input-type=module", "--eval", script, url]
    completed = subprocess.run(command, cwd=BUILD, capture_output=True, text=True, timeout=30, check=True)
    return completed.stdout


def follow_until_5(node: str, url: str) -> str:
    """The positions that the library reads after 4, or its error."""
    script = """
        import { Feed } from "./dist/index.js";
        const feed = new Feed(process.argv[1], "rk_test_key", { types: ["charge.*"], log: () => {} });
        try {
          for await (const batch of feed.follow(4, undefined, new AbortController().signal)) {
            console.log(batch.items.map((item) => item.position).join());
            if (batch.position === 5) break;
          }
        } catch (error) {
          console.log(String(error));
        }
    """
    return run_script(node, script, url)


@pytest.mark.parametrize("first", PASSING.values(), ids=PASSING)
def test_what_passes_by_itself_is_asked_for_again(node: str, first: Answer) -> None:
    with open_server([first, Answer(ITEM + END)]) as (url, paths):
        assert follow_until_5(node, url) == "5\n"
    assert paths == ["/internal/v1/feed?types=charge.*&after=4&wait=20"] * 2


@pytest.mark.parametrize(("answer", "kind", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_pass_by_itself_is_an_error_that_shows_it(
    node: str, answer: Answer, kind: str, message: str
) -> None:
    with open_server([answer]) as (url, paths):
        printed = follow_until_5(node, url)
    assert printed.startswith(f"{kind}: ")
    assert message in printed
    assert len(paths) == 1


def test_a_consumer_that_is_stopped_while_it_applies_a_whole_answer_ends(node: str) -> None:
    """The end of the answer has arrived and is not read yet: Node's fetch would never tell of it."""
    script = """
        import { Feed } from "./dist/index.js";
        import { setTimeout } from "node:timers/promises";
        const stop = new AbortController();
        const feed = new Feed(process.argv[1], "rk_test_key", { log: console.log });
        for await (const batch of feed.follow(4, undefined, stop.signal)) {
          await setTimeout(500);
          stop.abort();
          console.log(batch.position);
        }
        console.log("ended");
    """
    with open_server([Answer(ITEM + END)]) as (url, _):
        assert run_script(node, script, url) == "5\nended\n"


def test_the_library_depends_on_nothing_and_the_lock_file_has_no_addresses() -> None:
    package = json.loads((LIBRARY / "package.json").read_text())
    assert "dependencies" not in package
    assert package["peerDependenciesMeta"] == {"pg": {"optional": True}}
    packages = json.loads(LOCK.read_text())["packages"]
    assert all("resolved" not in entry for entry in packages.values())
    assert all("integrity" in entry for name, entry in packages.items() if name)
    for source in (LIBRARY / "src").glob("*.ts"):
        for line in source.read_text().splitlines():
            assert not line.startswith("import ") or ' from "./' in line or line.endswith("{"), source
