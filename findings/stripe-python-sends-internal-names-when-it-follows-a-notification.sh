#!/usr/bin/env bash
# stripe-python 16.1.0 adds `usage[0]=…` to the URL when it follows a thin event notification with async.
#
# `usage` are names of its own features, for the telemetry header. `raw_request` takes them out of the parameters;
# `raw_request_async` does not, so they are sent as parameters of the API: with `fetch_event_async()` and
# `fetch_related_object_async()` of a notification without a class, and of one with. The same calls without async send none.
# A server, proxy or test double that refuses unknown parameters refuses these and nothing else; one that compares URLs
# (recorded answers, caches, signatures) does not find them.
#
# Needs Python 3.11 or newer. Installs pinned packages into a temporary folder, and answers on loopback. Exits with 0 while
# the behaviour is as described.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check stripe==16.1.0 httpx==0.28.1

cat > run.py <<'EOF'
import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import stripe

urls = []


class Server(BaseHTTPRequestHandler):
    def do_GET(self):
        urls.append(self.path)
        body = json.dumps({"id": "made_up", "object": "charge" if "/v1/" in self.path else "v2.core.event"}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
base = f"http://127.0.0.1:{server.server_port}"
client = stripe.StripeClient("sk_test_made_up", base_addresses=dict.fromkeys(("api", "files", "connect", "meter_events"), base))


async def follow(event_type):
    notification = client.parse_event_notification_without_verification(json.dumps({
        "id": "evt_1", "object": "v2.core.event", "type": event_type, "created": "2026-11-28T12:00:00.000Z",
        "livemode": False, "context": None,
        "related_object": {"id": "ch_1", "type": "charge", "url": "/v1/charges/ch_1"},
    }))
    print(type(notification).__name__)
    notification.fetch_event()
    notification.fetch_related_object()
    await notification.fetch_event_async()
    await notification.fetch_related_object_async()


print("stripe-python", stripe.VERSION)
for event_type in ("v1.charge.captured", "v1.charge.of_a_later_release"):
    asyncio.run(follow(event_type))
    for url in urls[-4:]:
        print("  GET", url)
has_usage = ["usage[0]=" in url for url in urls]
as_described = has_usage == [False, False, True, True] * 2
print("As described." if as_described else "Changed.")
raise SystemExit(not as_described)
EOF
env/bin/python run.py

# Output seen:
#   stripe-python 16.1.0
#   V1ChargeCapturedEventNotification
#     GET /v2/core/events/evt_1
#     GET /v1/charges/ch_1
#     GET /v2/core/events/evt_1?usage[0]=pushed_event_pull&usage[1]=pushed_event_pull_async
#     GET /v1/charges/ch_1?usage[0]=fetch_related_object
#   UnknownEventNotification
#     GET /v2/core/events/evt_1
#     GET /v1/charges/ch_1
#     GET /v2/core/events/evt_1?usage[0]=pushed_event_pull&usage[1]=pushed_event_pull_async
#     GET /v1/charges/ch_1?usage[0]=fetch_related_object&usage[1]=unknown_event
#   As described.
