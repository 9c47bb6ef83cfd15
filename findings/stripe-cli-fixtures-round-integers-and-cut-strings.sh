#!/usr/bin/env bash
# @stripe/cli 1.52.0: `stripe fixtures` sends other values than the file has, and ends with status 0.
#
# Integers above 2^53 arrive rounded, as a JavaScript program would write them: an order or tracking number in `metadata`
# becomes another one. Of two references in one string only the first is filled; the second is gone, with what stands between them.
# A reference to a member that the answer does not have is sent as it stands, `${…}`, so a typing error becomes data. No line says so.
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
from urllib.parse import parse_qsl

PROGRAM = "node_modules/@stripe/cli-linux-x64/bin/stripe"
METADATA = {
    "number": 12345678901234567890,
    "two references": "${customer:name} is ${customer:id}",
    "missing member": "${customer:nmae}",
}
sent = {}


class Server(BaseHTTPRequestHandler):
    """Notes the form, and answers with a customer."""

    def do_POST(self):
        sent.update(parse_qsl(self.rfile.read(int(self.headers["content-length"])).decode()))
        body = json.dumps({"id": "cus_123", "object": "customer", "name": "Jenny"}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
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
steps = [
    {"name": "customer", "path": "/v1/customers", "method": "post", "params": {"name": "Jenny"}},
    {"name": "second", "path": "/v1/customers", "method": "post", "params": {"metadata": METADATA}},
]
with open("fixtures.json", "w") as file:
    json.dump({"_meta": {"template_version": 0}, "fixtures": steps}, file)
print(subprocess.run([PROGRAM, "version"], env=environment, capture_output=True, text=True).stdout.splitlines()[0])
completed = subprocess.run(
    [PROGRAM, "--api-base", f"http://127.0.0.1:{server.server_port}", "fixtures", "fixtures.json"],
    env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
)
arrived = {name: sent.get(f"metadata[{name}]") for name in METADATA}
for name, value in METADATA.items():
    print(f"{name}: {value!s} arrived as {arrived[name]}")
print(f"status {completed.returncode}, on standard error: {completed.stderr!r}")
expected = {"number": "12345678901234567000", "two references": "Jenny", "missing member": "${customer:nmae}"}
as_described = arrived == expected and completed.returncode == 0
print("As described." if as_described else "Changed.")
sys.exit(not as_described)
EOF
python3 run.py
