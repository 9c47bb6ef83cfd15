#!/usr/bin/env bash
# @stripe/cli 1.52.0: the command that npm installs does not pass signals on, so killing it leaves the CLI running.
#
# `stripe` from npm is a Node program that starts the real one with spawnSync, and waits. A signal to its process id, as from
# `kill $!` in a script, a test's terminate() or a supervisor, ends Node alone: nobody waits for the real CLI any more, and
# `stripe listen` goes on forwarding events, beside the one that the script starts next. Ctrl-C in a terminal hides this,
# since it reaches both. What helps: call the real program, or end the whole process group.
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
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

COMMAND = "node_modules/.bin/stripe"
environment = {
    "PATH": os.environ["PATH"], "HOME": os.getcwd(), "STRIPE_API_KEY": "sk_test_made_up_for_this_script",
    "STRIPE_CLI_TELEMETRY_OPTOUT": "1", "HTTPS_PROXY": "http://127.0.0.1:9",
}
version = subprocess.run([COMMAND, "version"], env=environment, capture_output=True, text=True).stdout
print(version.splitlines()[0])
server = socket.create_server(("127.0.0.1", 0))  # takes the request, and does not answer
process = subprocess.Popen(
    [COMMAND, "--api-base", f"http://127.0.0.1:{server.getsockname()[1]}", "get", "/v1/customers"], env=environment
)
connection, _ = server.accept()
connection.settimeout(0.2)
(real,) = map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
process.send_signal(signal.SIGTERM)
print(f"The command from npm ended by a signal: {process.wait()}")
time.sleep(0.5)
is_running = Path(f"/proc/{real}/stat").exists() and b"stripe" in Path(f"/proc/{real}/cmdline").read_bytes()
print(f"The real CLI that it started: {'still running' if is_running else 'ended'}")
if is_running:
    os.kill(real, signal.SIGTERM)
print("As described." if is_running else "Changed.")
sys.exit(not is_running)
EOF
python3 run.py
