"""The page on which a person confirms a login of the Stripe CLI: plain HTML that loads and runs nothing."""

from __future__ import annotations

import html
from collections.abc import Sequence

from fastapi.responses import HTMLResponse

from ledger.stripe_cli.logins import KEY_SECONDS, NamedAccount, OpenLogin

_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    # Not `no-referrer`: browsers would then send `Origin: null` with the form, as foreign pages do.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
_TITLE = "Log in the Stripe CLI"


def show_login(login: OpenLogin, accounts: Sequence[NamedAccount], form_token: str) -> HTMLResponse:
    """The page of a login that waits: its code, its device, and whose keys it would get."""
    options = "".join(
        f'<option value="{html.escape(each.id)}">{html.escape(each.name)} ({html.escape(each.id)})</option>\n'
        for each in accounts
    )
    return show_page(
        200,
        _TITLE,
        f"""\
<p>The Stripe CLI on <strong>{html.escape(login.device)}</strong> asks for keys of this service. It shows
this code:</p>
<p><strong>{html.escape(login.code)}</strong></p>
<p>If it shows another one, or you have not run <code>stripe login</code>, close this page.</p>
<form method="post">
<input type="hidden" name="token" value="{html.escape(form_token)}">
<p><label>Account <select name="account">
{options}</select></label></p>
<p>The keys are for test mode, and work for {KEY_SECONDS // 86_400} days or until you revoke them.</p>
<p><button>Allow</button></p>
</form>
""",
    )


def show_confirmation(account: NamedAccount) -> HTMLResponse:
    """The page after the confirmation."""
    name = f"{html.escape(account.name)} ({html.escape(account.id)})"
    text = f"""\
<p>The Stripe CLI gets keys of the account {name}. You can close this page.</p>
<p><code>ledger keys list</code> shows the keys, <code>ledger keys revoke</code> ends them.</p>
"""
    return show_page(200, "Allowed", text)


def show_refusal(status: int, text: str) -> HTMLResponse:
    """The page in place of one that there is not, or not for this browser."""
    return show_page(status, _TITLE, f"<p>{html.escape(text)}</p>\n")


def show_page(status: int, title: str, body: str) -> HTMLResponse:
    """A page with this heading; `body` is HTML."""
    text = f"""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{title} - Ledger</title>
<h1>{title}</h1>
{body}</html>
"""
    return HTMLResponse(text, status, _HEADERS)
