"""The view *Keys and accounts*: a secret is shown once and kept nowhere, and no action surprises."""

from __future__ import annotations

import json
import re

import httpx
import pytest
from playwright.sync_api import Page, expect

from ledger.accounts import INTERNAL_SCOPES, SCOPES
from ledger.api.internal.keys import SHELL_SCOPES
from tests.api.service import Registrar, Service
from tests.console.browser import NARROW, Console, check_accessible, check_width, take_picture

LIST_SCOPES = """
async () => {
    const { INTERNAL_SCOPES, RESOURCES, PRESETS } = await import("/console/static/views/keys/scopes.js");
    return { internal: INTERNAL_SCOPES.map(([scope]) => scope), resources: RESOURCES.map(([name]) => name),
             presets: PRESETS.flatMap(([, scopes]) => scopes) };
}
"""
READ_STORAGE = (
    "() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, history.state, location.href])"
)


@pytest.fixture
def console(console: Console, registrar: Registrar) -> Console:
    """Signed in with a key of an account of its own, so that nothing else is listed."""
    account = registrar.account()
    console.sign_in(registrar.key(account.id, "rk", scopes=["keys", "audit"])[1])
    return console


def create_key(page: Page, name: str) -> str:
    """The secret that the dialog shows."""
    page.get_by_role("button", name="Create a key").click()
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Auditor").click()
    page.get_by_role("button", name="Create it").click()
    return page.locator(".secret").inner_text()


def close_dialog(page: Page) -> None:
    page.locator(".dialog-foot").get_by_role("button", name="Close").click()


def test_the_scopes_to_choose_from_are_those_of_the_service(console: Console) -> None:
    console.open_view("keys")
    listed = console.page.evaluate(LIST_SCOPES)
    assert sorted(listed["internal"]) == sorted(set(INTERNAL_SCOPES) - SHELL_SCOPES)
    known = {f"rak_{name}_{access}" for name in listed["resources"] for access in ("read", "write")}
    assert known | set(listed["presets"]) <= set(SCOPES)


def test_a_new_key_is_shown_once_works_and_is_kept_nowhere(console: Console, service: Service) -> None:
    page = console.open_view("keys")
    secret = create_key(page, "auditor of <b>ACME</b>")
    assert re.fullmatch(r"rk_test_\w{20,}", secret)
    headers = {"authorization": f"Bearer {secret}"}
    assert httpx.get(f"{service.url}/internal/v1/audit/keys", headers=headers).status_code == 200
    check_accessible(page)
    close_dialog(page)
    row = page.get_by_role("row").filter(has_text="auditor of <b>ACME</b>")
    expect(row).to_contain_text("audit")
    expect(row).to_contain_text(f"***{secret[-4:]}")
    assert secret not in page.content()
    assert secret not in json.dumps(page.evaluate(READ_STORAGE))


def test_a_key_is_rolled_with_an_overlap_and_revoked(console: Console, service: Service) -> None:
    page = console.open_view("keys")
    headers = {"authorization": f"Bearer {create_key(page, 'importer')}"}
    close_dialog(page)
    page.get_by_role("row").filter(has_text="importer").get_by_role("link").click()
    take_picture(page, "keys")
    page.get_by_role("button", name="Roll").click()
    page.get_by_role("button", name="Make a new key").click()
    expect(page.get_by_text("The old key ends")).to_be_visible()
    close_dialog(page)
    expect(page.get_by_role("row").filter(has_text="ends soon")).to_have_count(1)
    page.get_by_role("button", name="Revoke").click()
    check_accessible(page)
    page.get_by_role("button", name="Revoke it").click()
    expect(page.get_by_text("is revoked")).to_be_visible()
    close_dialog(page)
    expect(page.get_by_role("row").filter(has_text="ended")).to_have_count(1)
    assert httpx.get(f"{service.url}/internal/v1/audit/keys", headers=headers).status_code == 401


def test_the_key_of_the_session_is_revoked_only_by_who_has_another(console: Console) -> None:
    page = console.open_view("keys")
    page.get_by_role("row").filter(has_text="this session").get_by_role("link").click()
    page.get_by_role("button", name="Revoke").click()
    confirm = page.get_by_role("button", name="Revoke it")
    expect(confirm).to_be_disabled()
    page.get_by_text("I have another key").click()
    confirm.click()
    expect(page.get_by_label("Key", exact=False).first).to_be_visible()  # the page that asks for a key
    assert page.url.endswith(page.url.split("/console/")[1])


def test_accounts_are_listed_created_and_acted_for(console: Console) -> None:
    page = console.open_view("keys?tab=accounts")
    page.get_by_role("button", name="Create an account").click()
    page.get_by_label("Name").fill("Berlin branch")
    page.get_by_role("button", name="Create it").click()
    expect(page.get_by_text("is connected")).to_be_visible()
    close_dialog(page)
    row = page.get_by_role("row").filter(has_text="Berlin branch")
    expect(row).to_contain_text("connected")
    check_accessible(page)
    page.set_viewport_size(NARROW)
    check_width(page)
    row.get_by_role("button", name="Act for it").click()
    page.wait_for_url("**/console/keys?account=acct_*")
    expect(page.get_by_text("No keys.")).to_be_visible()
