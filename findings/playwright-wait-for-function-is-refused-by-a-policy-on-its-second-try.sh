#!/usr/bin/env bash
# Playwright 1.65.2: wait_for_function with a string works on a page with a strict policy only if it is true at once.
#
# Playwright evaluates by the browser's protocol, past the policy of the page: `page.evaluate("1 + 1")` works where
# `script-src 'self'` forbids eval. `page.wait_for_function("window.done")` does so for its first try only. If that is
# false, it polls inside of the page, where the string is evaluated as the page would: EvalError, and a report of a
# violated policy that no line of the page caused. So a test passes on a fast machine and fails on a slow one, with an
# error that blames the page. The text of a function ("() => window.done") works: it is no expression to be evaluated
# again. So do wait_for_selector and expect() of a locator. `bypass_csp=True` works too, and takes away the policy that
# the test is about.
#
# Needs Python 3.11 and Chromium (Debian: chromium). Installs pinned packages into a temporary folder. Only a server on
# 127.0.0.1 is reached. Exits with 0 while the behaviour is as described.
set -euo pipefail
chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome) || {
    echo "Chromium is not installed" >&2
    exit 77
}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check playwright==1.65.2

cat > run.py <<'PY'
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version

from playwright.sync_api import Error, sync_playwright

SCRIPT = b"setTimeout(() => { window.done = true; }, 500);"
POLICY = "default-src 'none'; script-src 'self'"


class Site(BaseHTTPRequestHandler):
    def do_GET(self):
        is_script = self.path == "/page.js"
        body = SCRIPT if is_script else b"<!doctype html><script src=/page.js></script>"
        self.send_response(200)
        self.send_header("content-type", "text/javascript" if is_script else "text/html")
        self.send_header("content-security-policy", POLICY)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


server = HTTPServer(("127.0.0.1", 0), Site)
threading.Thread(target=server.serve_forever, daemon=True).start()
seen = {}
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=sys.argv[1], args=["--no-sandbox"])
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{server.server_port}/")
    seen["evaluate"] = page.evaluate("1 + 1") == 2
    tries = (
        ("text", "window.done", 0),
        ("function", "() => window.done", 0),
        ("text, true at once", "window.done", 1000),
    )
    for name, text, pause in tries:
        page.reload()
        page.wait_for_timeout(pause)
        try:
            page.wait_for_function(text, timeout=5000)
            seen[name] = "became true"
        except Error as error:
            seen[name] = "refused by the policy" if "unsafe-eval" in error.message else error.message.splitlines()[0]
    print(f"Playwright {version('playwright')}, Chromium {browser.version.partition('.')[0]}")
    browser.close()
for name, what in seen.items():
    print(f"  {name}: {what}")
as_described = seen == {
    "evaluate": True,
    "text": "refused by the policy",
    "function": "became true",
    "text, true at once": "became true",
}
print("As described: an expression is past the policy on its first try only." if as_described else "Changed.")
sys.exit(not as_described)
PY
venv/bin/python run.py "$chromium"

# Output seen:
#   Playwright 1.65.2, Chromium 156
#     evaluate: True
#     text: refused by the policy
#     function: became true
#     text, true at once: became true
#   As described: an expression is past the policy on its first try only.
