"""The view *Proof* and the badge of a record, on a log with a witness: what verifies is said to, what was
changed is found, and what the browser cannot check does not pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import psycopg
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.api.service import Account, Caller, Registrar, Service
from tests.conftest import Cluster
from tests.console.browser import NARROW, Console, check_accessible, check_width, take_picture
from tests.console.conftest import ThreadRunner
from tests.tree.test_witnessed_service import make_log_key
from tests.webhooks.receiver import wait_until
from tests.witness.server import run_witness

CUSTOMERS = 8
TAMPER = "UPDATE ledger.events SET state = state || ' '::bytea WHERE notification_id = 3"
UNDO = "UPDATE ledger.events SET state = substr(state, 1, length(state) - 1) WHERE notification_id = 3"
OTHER_LOG = """
() => localStorage.setItem("ledger-console-checkpoint", JSON.stringify(
    {origin: "other", size: 3, root: "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", keys: [],
     at: 1795000000}))
"""
NO_CRYPTOGRAPHY = "Object.defineProperty(Crypto.prototype, 'subtle', { get: () => undefined });"
SHOW_BADGE = """
async (props) => {
    const { html, render } = await import("/console/static/lib/ui.js");
    const { ProofBadge } = await import("/console/static/parts/proof-badge.js");
    const place = document.createElement("div");
    place.id = "badge";
    document.querySelector("main").prepend(place);
    render(html`<${ProofBadge} ...${props} />`, place);
}
"""


class Log(NamedTuple):
    """A service whose log a witness cosigns, and a key with every scope."""

    dsn: str
    url: str
    key: str
    event: str


@pytest.fixture(scope="module")
def log(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Log]:
    place, runner = tmp_path_factory.mktemp("log"), ThreadRunner()
    with cluster.create_database() as dsn:
        log_key = runner.run(make_log_key(dsn))
        registrar = Registrar(dsn, runner)
        account = registrar.account()
        key = registrar.key(account.id, "rk", scopes=["audit", "keys"])[1]
        registrar.close()
        with run_witness(place, [log_key]) as witness:
            settings = {
                "LEDGER_WITNESSES": f"{witness.keys[0]}={witness.url}",
                "LEDGER_CHECKPOINT_SECONDS": "1",
            }
            service = Service(dsn, place, **settings)
            yield Log(dsn, service.url, key, fill(service, account, key))
            service.stop()


def fill(service: Service, account: Account, key: str) -> str:
    """Make customers, and wait until all are cosigned. Returns an Event."""
    with httpx.Client(base_url=service.url, timeout=30) as http:
        caller, operator = Caller(http, account.secret), Caller(http, key)
        for number in range(CUSTOMERS):
            caller.customer(name=f"Customer {number}")
        cosigned = "/internal/v1/audit/witnesses"
        wait_until(lambda: operator.get(cosigned).json()["data"][0]["size"] == CUSTOMERS)
        return str(caller.events()[0]["id"])


@pytest.fixture
def console(browser: Browser, log: Log) -> Iterator[Console]:
    console = Console(browser, log.url, log.key)
    yield console
    try:
        console.check_policy()
    finally:
        console.close()


def verify(console: Console) -> Page:
    """Verify now, by keyboard, and wait for the end."""
    page = console.open_view("proof")
    page.keyboard.press("v")
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    expect(page.locator(".step .badge-waiting")).to_have_count(0)
    return page


def change_text(find: str, replace: str) -> Callable[[Route], None]:
    """Change an answer on its way, as a service that lies would."""

    def change(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=answer.text().replace(find, replace, 1))

    return change


def test_the_newest_checkpoint_and_its_witnesses_are_shown_and_checked(console: Console) -> None:
    page = console.open_view("proof")
    expect(page.get_by_text("Signature checked in this browser")).to_be_visible()
    expect(page.get_by_text("cosigns", exact=True)).to_be_visible()
    expect(page.get_by_role("definition").filter(has_text="none")).to_be_visible()  # not sealed yet
    take_picture(page, "proof")
    check_accessible(page)


def test_everything_is_verified_by_one_key_and_remembered(console: Console) -> None:
    page = verify(console)
    expect(page.get_by_text("Everything verifies.")).to_be_visible()
    expect(page.get_by_text("remembers this one from now on")).to_be_visible()
    expect(
        page.get_by_text(f"{CUSTOMERS} records hashed again by the service: nothing differs.")
    ).to_be_visible()
    page = verify(console)
    expect(page.get_by_text("0 more since")).to_be_visible()
    take_picture(page, "proof-verified")
    page.set_viewport_size(NARROW)
    check_width(page)
    check_accessible(page)


def test_a_changed_record_is_found_with_its_position(console: Console, log: Log) -> None:
    with psycopg.connect(log.dsn, autocommit=True) as conn:
        conn.execute("SET session_replication_role = replica")
        conn.execute(TAMPER)
        try:
            page = verify(console)
            expect(page.get_by_text("The log does not verify.")).to_be_visible()
            expect(page.get_by_text("the event at position 3 is not the one that was sealed")).to_be_visible()
            take_picture(page, "proof-refuted")
            check_accessible(page)
        finally:
            conn.execute(UNDO)


def test_a_log_that_does_not_continue_what_this_browser_saw_is_an_alarm(console: Console) -> None:
    page = console.open_view("proof")
    page.evaluate(OTHER_LOG)
    page = verify(console)
    expect(page.get_by_text("does not begin with the tree of 3 leaves")).to_be_visible()
    page.get_by_role("button", name="Forget what this browser saw").click()
    page.get_by_role("button", name="Forget it").click()
    page = verify(console)
    expect(page.get_by_text("Everything verifies.")).to_be_visible()


def test_a_browser_without_cryptography_checks_nothing_and_says_so(console: Console) -> None:
    console.context.add_init_script(NO_CRYPTOGRAPHY)
    page = verify(console)
    expect(page.get_by_text("Not all was verified.")).to_be_visible()
    expect(page.locator(".step").filter(has_text="not checked")).to_have_count(4)
    page = console.open_view("proof")
    expect(page.get_by_text("The browser offers no cryptography").first).to_be_visible()
    expect(page.get_by_text("Signature checked in this browser")).to_have_count(0)


def test_a_kept_checkpoint_and_a_proof_file_are_checked_where_they_are_pasted(
    console: Console, log: Log
) -> None:
    page = console.open_view("proof?tab=checkpoints")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    note = page.locator(".note-file pre").inner_text()
    size = note.splitlines()[1]
    page = console.open_view(f"proof?tab=checkpoints&size={size}")
    expect(page.get_by_role("heading", name=f"Checkpoint of {size} record")).to_be_visible()
    page = console.open_view("proof?tab=check")
    field, button = (
        page.get_by_role("textbox", name="A signed checkpoint"),
        page.get_by_role("button", name="Check"),
    )
    field.fill(note)
    button.click()
    expect(page.get_by_text("It is a checkpoint of this log.")).to_be_visible()
    field.fill(note.replace(f"\n{size}\n", "\n7777\n"))
    button.click()
    expect(page.get_by_text("is wrong")).to_be_visible()
    headers = {"authorization": f"Bearer {log.key}"}
    file = httpx.get(f"{log.url}/internal/v1/audit/proof/2.tlog-proof", headers=headers).text
    page.locator("input[type=file]").set_input_files(
        files={"name": "2.tlog-proof", "mimeType": "text/plain", "buffer": file.encode()}
    )
    expect(page.get_by_text("The record is in the log.")).to_be_visible()
    expect(page.get_by_text("customer.created")).to_be_visible()
    check_accessible(page)


def test_the_badge_says_that_a_record_is_in_the_tree_and_offers_its_proof(
    console: Console, log: Log, tmp_path: Path
) -> None:
    page = console.open_view("proof")
    for props in ({"position": 2}, {"event": log.event}):
        page.evaluate(SHOW_BADGE, props)
        badge = page.locator("#badge").first
        expect(badge.get_by_text("In the tree")).to_be_visible()
        expect(badge).to_contain_text(f"checkpoint of {CUSTOMERS} records · cosigned by ")
        expect(badge).to_contain_text("checked in this browser")
    check_accessible(page)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download 2.tlog-proof").click()
    download.value.save_as(tmp_path / "2.tlog-proof")
    assert (tmp_path / "2.tlog-proof").read_text().startswith("c2sp.org/tlog-proof@v1\nextra ")


def test_the_badge_alarms_when_the_service_lies(console: Console) -> None:
    page = console.open_view("proof")
    page.route("**/proof/2.tlog-proof", change_text("\nindex 1\n", "\nindex 2\n"))
    page.evaluate(SHOW_BADGE, {"position": 2})
    expect(page.get_by_role("alert")).to_contain_text("It does not verify: the leaf 2 is not in the tree")
    check_accessible(page)


def test_the_badge_waits_until_a_record_is_sealed(console: Console) -> None:
    page = console.open_view("proof")
    page.route(
        "**/proof/2.tlog-proof",
        lambda route: route.fulfill(
            status=409, json={"error": {"code": "not_sealed_yet", "message": "Position 2 is not sealed yet."}}
        ),
        times=1,
    )
    page.evaluate(SHOW_BADGE, {"position": 2})
    expect(page.locator("#badge").get_by_text("Not sealed yet", exact=True)).to_be_visible()
    expect(page.locator("#badge").get_by_text("In the tree")).to_be_visible()
