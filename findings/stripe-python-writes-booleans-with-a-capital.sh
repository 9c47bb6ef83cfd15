#!/usr/bin/env bash
# stripe-python before 12.0.1 sends booleans as `True` and `False`, in forms, queries and multipart parts.
#
# The API's documents show `true` and `false`, and other official clients send those. These releases send Python's own
# words wherever a boolean stands: in a form, in a nested hash, in the query of a GET, in a part of an upload. Stripe takes
# either, so it was seldom noticed; a server, proxy or test double that compares with `true` refuses, or misreads, every
# release up to 12.0.0, among them 5.0.0, which Debian 12 has. 12.0.1 sends lower case everywhere.
#
# Needs Python 3.11 or newer. Installs pinned packages into a temporary folder, and answers on loopback.
# Exits with 0 while the behaviour is as described.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"

cat > run.py <<'EOF'
import io
import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import stripe

seen = []


class Server(BaseHTTPRequestHandler):
    """Notes where a boolean stands in a request, and answers with a valid object."""

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode("latin-1")
        request = unquote(f"{self.path}\n{body}")
        seen.append(re.search(r"\b(true|false)\b", request, re.I)[0])
        answer = json.dumps({"id": "x_1", "object": "list", "data": [], "has_more": False, "url": "/v1/x"}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_GET

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
stripe.api_key = "sk_test_made_up_for_this_script"
stripe.api_base = stripe.upload_api_base = f"http://127.0.0.1:{server.server_port}"
stripe.Charge.create(amount=2000, currency="usd", source="tok_visa", capture=False)
stripe.PaymentIntent.create(amount=2000, currency="usd", automatic_payment_methods={"enabled": True})
stripe.Event.list(delivery_success=True)
stripe.File.create(purpose="dispute_evidence", file=io.BytesIO(b"x"), file_link_data={"create": True})
print(" ".join(seen))
EOF
changed=0
check() {
    python3 -m venv --clear env
    env/bin/python -m pip install --quiet --disable-pip-version-check "stripe==$1"
    seen=$(env/bin/python run.py)
    echo "stripe $1: form, nested hash, query, upload: $seen"
    [ "$seen" = "$2" ] || changed=1
}
check 5.0.0 'False True True True'
check 12.0.0 'False True True True'
check 12.0.1 'false true true true'
[ $changed = 0 ] && echo 'As described.' || echo 'Changed.'
exit $changed
