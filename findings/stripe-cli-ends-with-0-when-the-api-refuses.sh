#!/usr/bin/env bash
# @stripe/cli 1.52.0 prints errors of the API to standard output and ends with status 0.
#
# A declined card (402), a missing object (404), a conflict (409), too many requests (429), a failure of the server (500):
# for `get`, `post` and the resource commands they are answers like any other. `set -e` and `&&` in a script go on, and
# what reads the output in a pipe finds an error where it expects the object. Only a refused key (401) and a lost connection end
# with 1. None is tried again, whatever `Retry-After` and `Stripe-Should-Retry` say.
#
# Needs Linux on x86-64, Python 3, Node and npm. Installs a pinned package into a temporary folder, and answers on loopback.
# Exits with 0 while the behaviour is as described.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
echo '{"private": true}' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts @stripe/cli@1.52.0

cat > run.py <<'EOF'
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PROGRAM = "node_modules/@stripe/cli-linux-x64/bin/stripe"
requests = []


class Server(BaseHTTPRequestHandler):
    """Answers /v1/charges/ch_402 with 402, and so on."""

    def do_GET(self):
        requests.append(self.path)
        body = json.dumps({"error": {"type": "api_error", "message": "Refused."}}).encode()
        self.send_response(int(self.path[-3:]))
        self.send_header("content-type", "application/json")
        self.send_header("retry-after", "0")
        self.send_header("stripe-should-retry", "true")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
environment = {
    "PATH": os.environ["PATH"], "HOME": os.getcwd(), "STRIPE_API_KEY": "sk_test_made_up_for_this_script",
    "STRIPE_CLI_TELEMETRY_OPTOUT": "1", "HTTPS_PROXY": "http://127.0.0.1:9",
}
print(subprocess.run([PROGRAM, "version"], env=environment, capture_output=True, text=True).stdout.splitlines()[0])
ends = {}
for status in (400, 401, 402, 404, 409, 429, 500, 503):
    requests.clear()
    completed = subprocess.run(
        [PROGRAM, "--api-base", f"http://127.0.0.1:{server.server_port}", "charges", "retrieve", f"ch_{status}"],
        env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )
    stream = "standard output" if "Refused." in completed.stdout else "standard error"
    ends[status] = (completed.returncode, stream, len(requests))
    print(f"HTTP {status}: error on {stream}, status {completed.returncode}, requests: {len(requests)}")
expected = {status: (0, "standard output", 1) for status in ends} | {401: (1, "standard error", 1)}
print("As described." if ends == expected else "Changed.")
sys.exit(ends != expected)
EOF
python3 run.py
