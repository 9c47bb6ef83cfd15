"""Projections in the console: lag, a rebuild driven through the page, a parked stream, the stepper."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import httpx
import psycopg
import pytest
from playwright.sync_api import Page, expect

from projections.read_models.catalog import PROJECTIONS
from tests.api.service import Caller, Registrar, Service, ok
from tests.conftest import Cluster
from tests.console.browser import NARROW, WIDE, Console, check_accessible, check_width, take_picture

WAIT_MS = 15_000
EMAIL = "jenny.rosen@example.com"
FAULT = "ALTER TABLE projections.customers ADD CONSTRAINT fault CHECK (position <= {newest}) NOT VALID"
MEND = "ALTER TABLE projections.customers DROP CONSTRAINT IF EXISTS fault"
# Each page of a rebuild waits for the test.
GATE = """
CREATE FUNCTION public.gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN NEW; END $$;
CREATE TRIGGER gate BEFORE UPDATE ON projections.shares FOR EACH ROW EXECUTE FUNCTION public.gate();
"""
SAMPLES = """
INSERT INTO projections.lag_samples (slot, at, names, events, seconds)
SELECT ((now_slot - n) % 8640)::smallint, to_timestamp((now_slot - n) * 10),
       ARRAY['disputes', 'sealing', 'webhook fan-out'],
       ARRAY[(200 * (1 + sin(n / 20.0)))::bigint, (n % 40)::bigint, (n % 25)::bigint],
       ARRAY[(3 * (1 + sin(n / 20.0)))::real, ((n % 40) / 20.0)::real, ((n % 25) / 25.0)::real]
FROM generate_series(1, 360) AS n, (SELECT extract(epoch FROM now())::bigint / 10 AS now_slot) AS clock
ON CONFLICT DO NOTHING
"""


class Keys(NamedTuple):
    """Secrets of one account: its own, an operator's, and restricted ones with the scope of their name."""

    account: str
    operator: str
    clock: str
    audit: str


@pytest.fixture(scope="module")
def service(cluster: Cluster) -> Iterator[Service]:
    """A service of the module's own: its projections are broken and rebuilt."""
    with cluster.create_database() as dsn, TemporaryDirectory() as place:
        running = Service(dsn, Path(place), LEDGER_LIST_WAIT_MS="200")
        yield running
        running.stop()


@pytest.fixture(scope="module")
def keys(service: Service) -> Keys:
    """Made in a thread of its own: the browser's library runs an event loop in this one."""

    def create() -> Keys:
        registrar = Registrar(service.dsn)
        account = registrar.account()
        scopes = (("projections", "audit", "personal_data", "keys"), ("clock",), ("audit",))
        keys = [registrar.key(account.id, "rk", scopes=each)[1] for each in scopes]
        registrar.close()
        return Keys(account.secret, *keys)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(create).result()


@pytest.fixture(scope="module")
def http(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=30) as http:
        yield http


@pytest.fixture(scope="module")
def raw(http: httpx.Client, keys: Keys) -> Caller:
    return Caller(http, keys.account)


@pytest.fixture(scope="module")
def operator_key(keys: Keys) -> str:
    return keys.operator


@pytest.fixture
def sql(service: Service) -> Iterator[Callable[..., Any]]:
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        yield lambda statement, *values: conn.execute(statement.encode(), values or None)


@pytest.fixture(scope="module")
def dispute(raw: Caller) -> Any:
    made = raw.dispute()
    for number in range(3):
        text = f"<img src=x onerror=alert({number})>"
        fields = {"evidence[product_description]": text, "submit": "false"}
        ok(raw.post(f"/v1/disputes/{made['id']}", fields))
    raw.read_list("/v1/disputes")
    return made


def act(page: Page, button: str, confirm: str, reason: str = "") -> None:
    """Press the button of an action, say why, and confirm it."""
    page.get_by_role("button", name=button, exact=True).first.click()
    dialog = page.get_by_role("dialog")
    if reason:
        dialog.get_by_label("Why").fill(reason)
    dialog.get_by_role("button", name=confirm, exact=True).click()


def check_look(page: Page, name: str) -> None:
    """The view wide and narrow, light and dark: nothing scrolls sideways, nothing is hard to read."""
    page.emulate_media(color_scheme="dark")
    check_accessible(page)
    page.emulate_media(color_scheme="light")
    check_accessible(page)
    take_picture(page, name)
    page.set_viewport_size(NARROW)
    check_width(page)
    take_picture(page, f"{name}-narrow")
    page.set_viewport_size(WIDE)


def test_the_table_shows_each_projection_and_the_lag_over_the_last_hour(
    console: Console, dispute: Any, sql: Callable[..., Any]
) -> None:
    sql(SAMPLES)
    page = console.open_view("projections")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(len(PROJECTIONS))
    expect(rows.filter(has_text="disputes").get_by_text("up to date")).to_be_visible()
    expect(page.get_by_text("1 worker")).to_be_visible()
    expect(page.locator(".plot canvas")).to_have_count(2)
    check_look(page, "projections")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("audit_keys")


def test_a_rebuild_is_begun_seen_to_switch_and_rolled_back_on_the_page(
    service: Service, console: Console, dispute: Any, sql: Callable[..., Any]
) -> None:
    page = console.open_view("projections/disputes")
    sql(GATE)
    with psycopg.connect(service.dsn, autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(7)")
        act(page, "Rebuild", "Begin", "a column was added")
        rebuild = page.get_by_role("region", name="Rebuild 1")
        expect(rebuild.locator("[aria-current=step]")).to_contain_text("filling")
        expect(rebuild.get_by_role("progressbar")).to_be_visible()
        expect(rebuild).to_contain_text("a column was added")
        act(page, "Pause", "Pause")
        expect(rebuild.locator(".badge", has_text="paused")).to_be_visible(timeout=WAIT_MS)
        take_picture(page, "projection-rebuild")
    sql("DROP TRIGGER gate ON projections.shares")
    act(page, "Resume", "Resume")
    last = page.get_by_role("region", name="Last rebuild")
    expect(last).to_contain_text("Generation 2 became live", timeout=WAIT_MS)
    expect(last.locator(".stage-done")).to_have_count(5)
    gate = page.get_by_role("region", name="Equality gate")
    expect(gate).to_contain_text("equal")
    expect(gate).to_contain_text("1 live, 1 rebuilt")
    expect(page.get_by_role("region", name="History")).to_contain_text("a column was added")
    take_picture(page, "projection")
    act(page, "Roll back", "Roll back", "to be sure")
    expect(page.locator(".lead")).to_contain_text("generation 1 is live", timeout=WAIT_MS)
    act(page, "Switch to it", "Switch")
    expect(page.locator(".lead")).to_contain_text("generation 2 is live", timeout=WAIT_MS)
    act(page, "Retire", "Drop it")
    expect(page.get_by_role("region", name="Generations", exact=True).locator("tbody tr")).to_have_count(1)


def test_a_rebuild_that_differs_shows_its_rows_side_by_side_and_is_promoted_with_a_reason(
    console: Console, dispute: Any, raw: Caller, sql: Callable[..., Any]
) -> None:
    customer = raw.customer(email=EMAIL, description="as it was")
    raw.read_list("/v1/customers")
    sql("UPDATE projections.customers SET deleted = true, email = 'drifted' WHERE id = %s", customer["id"])
    page = console.open_view("projections/customers")
    act(page, "Rebuild", "Begin")
    rebuild = page.get_by_role("region", name=re.compile("Rebuild"))
    expect(rebuild).to_contain_text("nothing was switched", timeout=WAIT_MS)
    expect(rebuild.locator("[aria-current=step]")).to_contain_text("differing")
    gate = page.get_by_role("region", name="Equality gate")
    expect(gate).to_contain_text(customer["id"])
    row = gate.locator("tbody tr").filter(has_text="deleted")
    expect(row.locator(".compared-left")).to_have_text("true")
    expect(row.locator(".compared-right")).to_have_text("false")
    check_look(page, "projection-differing")
    page.get_by_role("button", name="Promote all the same").click()
    promote = page.get_by_role("dialog").get_by_role("button", name="Promote", exact=True)
    expect(promote).to_be_disabled()
    page.get_by_role("dialog").get_by_label("Why").fill("it had drifted")
    promote.click()
    expect(page.locator(".lead")).to_contain_text("generation 2 is live", timeout=WAIT_MS)
    expect(page.get_by_role("region", name="Last rebuild")).to_contain_text("although rows differed")


def test_a_parked_stream_is_named_and_retried_on_the_page(
    console: Console, raw: Caller, sql: Callable[..., Any]
) -> None:
    newest = sql("SELECT coalesce(max(position), 0) FROM projections.customers").fetchone()[0]
    sql(FAULT.format(newest=newest))
    bad = raw.customer(email="bad@example.com")
    page = console.open_view("projections/customers")
    parked = page.get_by_role("region", name="Parked streams")
    expect(parked).to_contain_text(bad["id"], timeout=WAIT_MS)
    expect(parked).to_contain_text("fault")
    assert "bad@example.com" not in page.content()
    take_picture(page, "projection-parked")
    act(page, "Retry", "Retry")
    expect(page.get_by_role("dialog")).to_contain_text("still parked")
    page.get_by_role("dialog").get_by_role("button", name="Close").last.click()
    sql(MEND)
    act(page, "Retry", "Retry", "mended")
    expect(page.get_by_role("dialog")).to_contain_text("it is parked no longer")
    page.get_by_role("dialog").get_by_role("button", name="Close").last.click()
    expect(parked).to_be_hidden()
    assert bad["id"] in [each["id"] for each in raw.read_list("/v1/customers")]


def test_the_stepper_goes_by_arrows_and_its_url_is_the_step(console: Console, dispute: Any) -> None:
    page = console.open_view(f"projections/disputes/step?stream={dispute['id']}")
    page.wait_for_url(re.compile(r"position=\d+"))
    expect(page.get_by_role("region", name="Outcome")).to_contain_text("1 row changed.")
    expect(page.get_by_text("live: equal")).to_be_visible()
    last = page.url
    expect(page.locator(".step-rows").first).to_contain_text("<img src=x onerror=alert(2)>")
    check_look(page, "projection-step")
    for version in (3, 2, 1):
        page.keyboard.press("ArrowLeft")
        expect(page.get_by_role("region", name="Event", exact=True)).to_contain_text(f"version {version}")
    expect(page.get_by_role("region", name="Outcome")).to_contain_text("1 row created.")
    expect(page.get_by_role("button", name="← Previous")).to_be_disabled()
    page.goto(last)
    expect(page.get_by_role("region", name="Outcome")).to_contain_text("1 row changed.")


def test_a_stall_names_its_cause_on_the_page(
    service: Service, console: Console, raw: Caller, http: httpx.Client, keys: Keys
) -> None:
    moves_clock = {"authorization": f"Bearer {keys.clock}"}
    with psycopg.connect(service.dsn, application_name="a report") as holder:
        holder.execute("LOCK TABLE projections.refunds_g1")
        raw.refund()
        ok(http.post("/internal/v1/clock", json={"advance_seconds": 60}, headers=moves_clock))
        page = console.open_view("projections")
        note = page.get_by_role("alert").filter(has_text="Stalled")
        expect(note).to_contain_text("a report, idle in transaction", timeout=WAIT_MS)
        expect(note).to_contain_text("projections.refunds_g1")
        take_picture(page, "projections-stalled")
        holder.rollback()
    expect(note).to_be_hidden(timeout=WAIT_MS)


def test_a_key_without_the_scope_is_told_which_one(console: Console, keys: Keys) -> None:
    console.context.clear_cookies()
    console.sign_in(keys.audit)
    page = console.open_view("projections")
    expect(page.get_by_text("needs a key with the scope projections")).to_be_visible()
