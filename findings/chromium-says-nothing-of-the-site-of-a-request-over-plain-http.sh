#!/usr/bin/env bash
# Chromium: over plain HTTP a request says nothing of the site that caused it, except to a loopback address.
#
# `Sec-Fetch-Site` says whether a page of the same origin, of the same site or of another one sends a request, so that a
# server can refuse what other sites make a browser send. Chromium sends it only to origins that it takes for trustworthy:
# HTTPS, and plain HTTP to 127.0.0.1 or localhost. The same page and service, reached by the name of the machine, get no
# such header, neither from their own scripts nor from another site. So a check that works in development ("refuse unless
# same-origin") refuses everything in an internal network without TLS, and one that lets requests without the header pass has
# nothing to decide by there. What helps: TLS; where there is none, to ask for a header of one's own, which a page of another
# origin cannot send without a preflight.
#
# Needs Python 3.11 and Chromium (Debian: chromium). Installs pinned packages into a temporary folder. Only a server on
# 127.0.0.1 is reached, by two names. Exits with 0 while the behaviour is as described.
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
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from playwright.sync_api import sync_playwright

said = []


class Service(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/asked":
            said.append(self.headers.get("sec-fetch-site"))
        body = b"<!doctype html><title>A page</title>"
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
threading.Thread(target=server.serve_forever, daemon=True).start()
port = server.server_port
PAGES = (
    ("its own page, by loopback address", "127.0.0.1", "127.0.0.1"),
    ("its own page, by the machine's name", "service.test", "service.test"),
    ("another site, by loopback address", "other.test", "127.0.0.1"),
    ("another site, by the machine's name", "other.test", "service.test"),
)
with sync_playwright() as playwright:
    names = "--host-resolver-rules=MAP *.test 127.0.0.1"
    browser = playwright.chromium.launch(executable_path=sys.argv[1], args=["--no-sandbox", names])
    print("Chromium", browser.version.partition(".")[0])
    page = browser.new_page()
    for _, asking, asked in PAGES:
        page.goto(f"http://{asking}:{port}/")
        page.evaluate("url => new Promise(done => { const i = new Image(); i.onerror = i.onload = done; i.src = url; })",
                      f"http://{asked}:{port}/asked")
    browser.close()
for (what, _, _), site in zip(PAGES, said):
    print(f"  {what}: {site or 'nothing'}")
as_described = said == ["same-origin", None, "cross-site", None]
print("As described: by its name, the service cannot tell its own page from another site." if as_described else "Changed.")
sys.exit(not as_described)
PY
venv/bin/python run.py "$chromium"

# Output seen:
#   Chromium 156
#     its own page, by loopback address: same-origin
#     its own page, by the machine's name: nothing
#     another site, by loopback address: cross-site
#     another site, by the machine's name: nothing
#   As described: by its name, the service cannot tell its own page from another site.
