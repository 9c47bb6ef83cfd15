#!/usr/bin/env bash
# @stripe/cli 1.52.0: `--override` and `--add` in Stripe's own spelling, `metadata[foo]=baz`, override by chance.
#
# The CLI takes `metadata[foo]` for the name of a member of its own, beside `metadata` with its `foo`, and sends both, in the
# random order of a Go map. The last value counts: about every tenth run sets what was to be overridden, and ends with status 0.
# A dot, `metadata.foo=baz`, replaces the value. `--remove` with brackets does nothing. The help shows no spelling.
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
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PROGRAM = "node_modules/@stripe/cli-linux-x64/bin/stripe"
RUNS = 30
RUNS_MAX = 600  # that none of so many has the rarer order is as good as impossible
forms = []


class Server(BaseHTTPRequestHandler):
    """Notes the forms, and answers with a customer."""

    def do_POST(self):
        forms.append(self.rfile.read(int(self.headers["content-length"])).decode())
        body = json.dumps({"id": "cus_123", "object": "customer"}).encode()
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


def trigger(*options, until=1):
    """How often the update of the customer, whose form is `metadata[foo]=bar`, was sent as which form."""
    sent = Counter()
    while sent.total() < RUNS or (len(sent) < until and sent.total() < RUNS_MAX):
        forms.clear()
        subprocess.run(
            [PROGRAM, "--api-base", f"http://127.0.0.1:{server.server_port}", "trigger", "customer.updated", *options],
            env=environment, capture_output=True, stdin=subprocess.DEVNULL, check=True,
        )
        sent[forms[-1]] += 1
    print(" ".join(options))
    for form, count in sent.most_common():
        print(f"  {count} times {form}")
    return set(sent)


print(subprocess.run([PROGRAM, "version"], env=environment, capture_output=True, text=True).stdout.splitlines()[0])
BAR, BAZ = "metadata[foo]=bar", "metadata[foo]=baz"
as_described = (
    trigger("--override", f"customer_updated:{BAZ}", until=2) == {f"{BAR}&{BAZ}", f"{BAZ}&{BAR}"}
    and trigger("--override", "customer_updated:metadata.foo=baz") == {BAZ}
    and trigger("--remove", "customer_updated:metadata[foo]") == {BAR}
)
print("As described." if as_described else "Changed.")
sys.exit(not as_described)
EOF
python3 run.py

# Output seen:
#   stripe version 1.52.0
#   --override customer_updated:metadata[foo]=baz
#     25 times metadata[foo]=bar&metadata[foo]=baz
#     5 times metadata[foo]=baz&metadata[foo]=bar
#   --override customer_updated:metadata.foo=baz
#     30 times metadata[foo]=baz
#   --remove customer_updated:metadata[foo]
#     30 times metadata[foo]=bar
#   As described.
