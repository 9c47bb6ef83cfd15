#!/usr/bin/env bash
# stripe-python 16.1.0: "Circular reference detected" for any Stripe object among the parameters of a v2 call.
#
# To change one member of `metadata` or of `webhook_endpoint`, one passes on what was retrieved: `{"metadata":
# destination.metadata}`. In v1 calls that works: a form is written from the object. In v2 calls the parameters are JSON,
# and a StripeObject is no dict; the encoder's hook returns what it does not know as it is, so that json reports a circular
# reference, and nothing is sent. Nothing is circular: `to_dict()` is what is missing. Lists of strings pass.
#
# Needs Python 3.11 or newer. Installs pinned packages into a temporary folder, and answers on loopback. Exits with 0 while
# the behaviour is as described.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check stripe==16.1.0

cat > run.py <<'EOF'
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import stripe

bodies = []
OBJECT = {"id": "made_up", "metadata": {"order": "6735"}, "enabled_events": ["v1.charge.captured"]}


class Server(BaseHTTPRequestHandler):
    def do_GET(self):
        bodies.append(self.rfile.read(int(self.headers.get("content-length") or 0)).decode())
        body = json.dumps(OBJECT | {"object": "customer" if "/v1/" in self.path else "v2.core.event_destination"}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
base = f"http://127.0.0.1:{server.server_port}"
client = stripe.StripeClient("sk_test_made_up", base_addresses=dict.fromkeys(("api", "files", "connect", "meter_events"), base))
destinations = client.v2.core.event_destinations
customer, destination = client.v1.customers.retrieve("cus_1"), destinations.retrieve("ed_1")
CALLS = {
    "v1, metadata as retrieved": lambda: client.v1.customers.update("cus_1", {"metadata": customer.metadata}),
    "v2, metadata as retrieved": lambda: destinations.update("ed_1", {"metadata": destination.metadata}),
    "v2, its to_dict()": lambda: destinations.update("ed_1", {"metadata": destination.metadata.to_dict()}),
    "v2, a list as retrieved": lambda: destinations.update("ed_1", {"enabled_events": destination.enabled_events}),
}
print("stripe-python", stripe.VERSION)
seen = {}
for name, call in CALLS.items():
    bodies.clear()
    try:
        call()
        seen[name] = bodies[0]
    except ValueError as error:
        seen[name] = f"ValueError: {error}; requests: {len(bodies)}"
    print(f"  {name}: {seen[name]}")
expected = {
    "v1, metadata as retrieved": "metadata[order]=6735",
    "v2, metadata as retrieved": "ValueError: Circular reference detected; requests: 0",
    "v2, its to_dict()": '{"metadata": {"order": "6735"}}',
    "v2, a list as retrieved": '{"enabled_events": ["v1.charge.captured"]}',
}
print("As described." if seen == expected else "Changed.")
raise SystemExit(seen != expected)
EOF
env/bin/python run.py

# Output seen:
#   stripe-python 16.1.0
#     v1, metadata as retrieved: metadata[order]=6735
#     v2, metadata as retrieved: ValueError: Circular reference detected; requests: 0
#     v2, its to_dict(): {"metadata": {"order": "6735"}}
#     v2, a list as retrieved: {"enabled_events": ["v1.charge.captured"]}
#   As described.
