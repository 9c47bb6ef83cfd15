"""`stripe login` with a service in development: the CLI's two calls, and the page between them."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psycopg
import pytest

from ledger.stripe_cli.logins import LOGIN_SECONDS, LOGINS_MAX
from tests.browser.chromium import CHROMIUM, open_chromium
from tests.serving.process import SERVICE_KEY, ServeProcess, run_ledger, run_refused, run_serve
from tests.stripe_cli.cli import RefusingProxy, StripeCli, needs_stripe_cli
from tests.stripe_cli.conftest import proxy  # noqa: F401  # fixture

# ruff: noqa: F811

AUTH = "/stripecli/auth"


class Login(NamedTuple):
    """A login that has begun, and its page as a browser of this machine gets it."""

    http: httpx.Client
    page: str
    poll: str
    code: str
    html: str

    @property
    def form(self) -> dict[str, str]:
        [token] = re.findall(r'name="token" value="([^"]+)"', self.html)
        [account] = re.findall(r'<option value="([^"]+)"', self.html)
        return {"token": token, "account": account}

    def confirm(self, *, headers: dict[str, str] | None = None, **changed: str) -> httpx.Response:
        own = {"origin": self.page.split("/stripecli")[0]}
        return self.http.post(
            self.page, data=self.form | changed, headers=own if headers is None else headers
        )

    def fetch_keys(self) -> Any:
        answer = self.http.get(self.poll)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def service(place: Path) -> Iterator[ServeProcess]:
    """Two API processes, so that a login need not stay with the one that it began with."""
    with run_serve(place / "login", workers=2, log_requests="all", log_level="debug") as service:
        yield service


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=20) as http:
        yield http


@pytest.fixture(autouse=True)
def no_logins_before(service: ServeProcess) -> None:
    execute(service, "DELETE FROM stripe_cli.logins")


def execute(service: ServeProcess, statement: str) -> None:
    database = json.loads((service.data_dir / "database.json").read_text())
    with psycopg.connect(database["dsn"], autocommit=True) as conn:
        conn.execute(statement.encode())


def begin(service: ServeProcess, http: httpx.Client, device: str = "a-laptop") -> Login:
    answer = http.post(f"{service.url}{AUTH}", data={"device_name": device, "client_version": "1.52.0"})
    assert answer.status_code == 200, answer.text
    begun = answer.json()
    page = http.get(begun["browser_url"])
    assert page.status_code == 200, page.text
    return Login(http, begun["browser_url"], begun["poll_url"], begun["verification_code"], page.text)


def test_a_person_confirms_and_the_program_gets_keys_once(service: ServeProcess, http: httpx.Client) -> None:
    login = begin(service, http, device="<b>Ada's</b>")
    text = unescape(login.html)
    assert login.code in text
    assert "<b>" not in login.html
    assert "<b>Ada's</b>" in text
    assert login.fetch_keys() == {"redeemed": False}
    assert login.confirm().status_code == 200
    assert http.head(login.poll).status_code == 404  # a GET would hand out the keys
    keys = login.fetch_keys()
    assert keys.pop("redeemed") is True
    assert (keys["account_id"], keys["account_display_name"]) == (login.form["account"], "Development")
    assert http.get(f"{service.url}/v1/customers", auth=(keys["testmode_key_secret"], "")).status_code == 200
    assert keys["testmode_key_secret"].startswith("sk_test_")
    assert keys["testmode_key_publishable"].startswith("pk_test_")
    for used in (http.get(login.poll), http.get(login.page), login.confirm()):
        assert used.status_code == 404
        assert "expired or is used" in used.text
    listed = json.loads(run_ledger(service.data_dir, "keys", "list", "--json").stdout)["data"]
    made = [key for key in listed if key["name"] == "Stripe CLI on <b>Ada's</b>"]
    assert sorted(key["kind"] for key in made) == ["pk", "sk"]
    assert {key["mode"] for key in made} == {"test"}
    assert all(89 < (key["expires_at"] - key["created_at"]) / 86_400 < 91 for key in made)
    for secret in (*keys.values(), login.page.rpartition("/")[2], login.poll.rpartition("/")[2]):
        assert secret in ("Development", keys["account_id"]) or secret not in service.log


def test_of_polls_that_meet_one_gets_keys(service: ServeProcess, http: httpx.Client) -> None:
    login = begin(service, http)
    login.confirm()
    with ThreadPoolExecutor(8) as pool:
        answers = [each.result() for each in [pool.submit(httpx.get, login.poll) for _ in range(8)]]
    assert sorted(answer.status_code for answer in answers) == [200, *[404] * 7]


FOREIGN: list[dict[str, str]] = [
    {},  # no browser
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:1"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_only_the_page_itself_confirms(
    service: ServeProcess, http: httpx.Client, headers: dict[str, str]
) -> None:
    login = begin(service, http)
    assert login.confirm(headers=headers).status_code == 403
    assert login.confirm(token="").status_code == 403
    assert login.confirm(token="é").status_code == 403
    assert login.confirm(account="acct_unknown").status_code == 400
    assert login.fetch_keys() == {"redeemed": False}


@pytest.mark.parametrize(
    "headers", [{"host": "rebound.example"}, {"host": "10.0.0.1:80"}, {"x-forwarded-for": "1.2.3.4"}], ids=str
)
def test_nobody_logs_in_by_another_name_or_through_a_proxy(
    service: ServeProcess, http: httpx.Client, headers: dict[str, str]
) -> None:
    login = begin(service, http)
    assert http.get(login.page, headers=headers).status_code == 403
    assert login.confirm(headers={"sec-fetch-site": "same-origin", **headers}).status_code == 403
    assert http.get(login.poll, headers=headers).status_code == 403
    assert http.post(f"{service.url}{AUTH}", data={"device_name": "x"}, headers=headers).status_code == 403


@pytest.mark.skipif(
    sys.platform != "linux" or os.getuid() != 0, reason="only root can be somebody else, only Linux tells"
)
def test_another_user_of_the_machine_cannot_confirm(service: ServeProcess, http: httpx.Client) -> None:
    login = begin(service, http)
    program = (
        "import sys, urllib.request as r, urllib.error as e\n"
        "try: print(r.urlopen(sys.argv[1]).status)\n"
        "except e.HTTPError as refusal: print(refusal.code, refusal.read().decode())"
    )
    completed = subprocess.run(
        ["/usr/bin/env", "python3", "-c", program, login.page],
        capture_output=True, text=True, check=False, user=65534, group=65534, cwd="/", timeout=20,
    )  # fmt: skip
    assert completed.stdout.startswith("403 "), completed
    assert "the user who runs Ledger" in completed.stdout


def test_a_login_is_short_lived_and_few_wait(service: ServeProcess, http: httpx.Client) -> None:
    old = begin(service, http)
    old.confirm()
    execute(service, f"UPDATE stripe_cli.logins SET created_at = now() - interval '{LOGIN_SECONDS} s'")
    assert http.get(old.poll).status_code == 404, "confirmed too long ago"
    begun = [http.post(f"{service.url}{AUTH}", data={"device_name": "x"}) for _ in range(LOGINS_MAX + 1)]
    assert [answer.status_code for answer in begun] == [*[200] * LOGINS_MAX, 429]
    assert begun[-1].json()["error"]["code"] == "rate_limit"


@pytest.mark.parametrize(
    "form", [{}, {"device_name": ""}, {"device_name": "x" * 101}, {"device_name": "a\nb"}]
)
def test_a_device_without_a_proper_name_is_refused(
    service: ServeProcess, http: httpx.Client, form: dict[str, str]
) -> None:
    answer = http.post(f"{service.url}{AUTH}", data=form)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "device_name")
    browser = {"origin": service.url}
    assert http.post(f"{service.url}{AUTH}", data={"device_name": "x"}, headers=browser).status_code == 403
    assert http.post(f"{service.url}{AUTH}", content=b"x" * 10_000).status_code == 413


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_a_browser_confirms(service: ServeProcess, http: httpx.Client, tmp_path: Path) -> None:
    login = begin(service, http)
    with open_chromium(tmp_path) as page:
        page.open(login.page)
        page.wait_for("document.querySelector('button') !== null")
        page.evaluate("document.querySelector('button').click()")
        page.wait_for("document.title.startsWith('Allowed')")
        assert not page.complaints
    assert login.fetch_keys()["redeemed"] is True


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"database_url": "dbname=x", "secret_key": SERVICE_KEY}, "LEDGER_DATABASE_URL is set"),
        ({"public_url": "https://ledger.example"}, "LEDGER_PUBLIC_URL is set"),
        ({"host": "0.0.0.0"}, "LEDGER_HOST is no loopback address"),
    ],
)
def test_it_cannot_be_switched_on_outside_development(
    place: Path, settings: dict[str, str], reason: str
) -> None:
    line = run_refused(place / "refused", "serve", stripe_cli_login="true", **settings)
    assert line == f"ledger: LEDGER_STRIPE_CLI_LOGIN: only for development, and {reason}"
    assert "with `ledger serve`" in run_refused(place / "refused", "api", stripe_cli_login="true", **settings)


def test_elsewhere_the_cli_is_told_what_to_do(shared_service: Any) -> None:
    answer = httpx.post(f"{shared_service.url}{AUTH}", data={"device_name": "x"})
    assert answer.status_code == 404
    assert "stripe config --set test_mode_api_key" in answer.json()["error"]["message"]


@needs_stripe_cli
def test_the_printed_command_listens(service: ServeProcess, proxy: RefusingProxy, tmp_path: Path) -> None:
    (line,) = [line for line in service.output.splitlines() if "stripe listen" in line]
    setting, program, *arguments = shlex.split(line.partition("(docs/")[0])
    assert program == "stripe"
    cli = StripeCli(tmp_path, "", setting.removeprefix("STRIPE_API_KEY="), proxy)
    with cli.start(*arguments) as listener:
        listener.wait_for("Ready!")
        cli.url = service.url
        customer = cli.call("customers", "create")
        (event,) = cli.call("events", "list", "--type", "customer.created", "--limit", "1")["data"]
        assert event["data"]["object"]["id"] == customer["id"]
        listener.wait_for(f"customer.created.*{event['id']}")


@needs_stripe_cli
def test_a_login_of_the_cli_gets_keys_that_work(
    service: ServeProcess, http: httpx.Client, proxy: RefusingProxy, tmp_path: Path
) -> None:
    keys = json.loads((service.data_dir / "dev-keys.json").read_text())
    cli = StripeCli(tmp_path, service.url, "", proxy)
    assert "You have not configured API keys yet" in cli.run("get", "/v1/customers").errors
    begun: dict[str, Any] = cli.run("login", "--dashboard-base", service.url).answer
    (poll_url,) = re.findall(r"--complete '?(http\S+?)'?$", begun["next_step"])
    with cli.start("--dashboard-base", service.url, "login", "--complete", poll_url) as waiting:
        page: str = begun["browser_url"]
        login = Login(http, page, "", begun["verification_code"], http.get(page).text)
        assert login.code in login.html
        assert login.confirm(account=keys["account"]).status_code == 200
        ended = waiting.wait()
    assert ended.status == 0, ended
    assert keys["account"] in ended.output + ended.errors
    customer = cli.call("customers", "create", "--name", "Jenny")
    assert cli.call("get", customer["id"], STRIPE_API_KEY=keys["secret"]) == customer
