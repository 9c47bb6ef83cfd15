#!/usr/bin/env bash
# dj-stripe 2.11.0 asks api.stripe.com for accounts although STRIPE_API_HOST names another server.
#
# STRIPE_API_HOST is documented for a server like stripe-mock, and all models but one follow it: it sets
# `stripe.api_base`. AccountV2 makes a `stripe.StripeClient`, which does not look at `stripe.api_base` (in
# stripe-python 15 and 16: only `base_addresses` counts). `djstripe_sync_models` without model names includes
# AccountV2: a test run that seems closed leaves the machine, and without a network it exits with 1.
#
# Needs Python 3.11 or newer. Installs pinned packages into a temporary folder. Nothing leaves the machine: a proxy
# on loopback takes, notes and refuses every connection to another host.
# Exits with 0 while the behaviour is as described.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check dj-stripe==2.11.0 stripe==15.6.2 django==5.2.19

cat > run.py <<'EOF'
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

seen = []


class Server(BaseHTTPRequestHandler):
    """The server of STRIPE_API_HOST: every list is empty."""

    def do_GET(self):
        seen.append(f"local server: GET {self.path.partition('?')[0]}")
        body = json.dumps({"object": "list", "data": [], "has_more": False, "url": self.path}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Proxy(BaseHTTPRequestHandler):
    """The way to every other host, closed."""

    def do_CONNECT(self):
        seen.append(f"another host: {self.path}")
        self.send_error(403)

    def log_message(self, *_):
        pass


def listen(handler):
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


os.environ |= {"https_proxy": listen(Proxy), "no_proxy": "127.0.0.1"}

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="x" * 50,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "djstripe"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    STRIPE_TEST_SECRET_KEY="sk_test_made_up_for_this_script",
    STRIPE_API_HOST=listen(Server),
    DJSTRIPE_FOREIGN_KEY_TO_FIELD="id",
)
django.setup()

import stripe
from djstripe.models import AccountV2, Customer

print("dj-stripe", __import__("importlib.metadata").metadata.version("dj-stripe"), "stripe", stripe.VERSION)
print("Customer:", list(Customer.api_list(api_key=settings.STRIPE_TEST_SECRET_KEY)))
try:
    print("AccountV2:", list(AccountV2.api_list(api_key=settings.STRIPE_TEST_SECRET_KEY)))
except stripe.APIConnectionError:
    print("AccountV2: APIConnectionError")
print("\n".join(sorted(set(seen))))
as_described = set(seen) == {"local server: GET /v1/customers", "another host: api.stripe.com:443"}
print("As described: AccountV2 went to api.stripe.com." if as_described else "Changed.")
raise SystemExit(0 if as_described else 1)
EOF
env/bin/python run.py
