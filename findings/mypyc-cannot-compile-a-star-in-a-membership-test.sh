#!/usr/bin/env bash
# mypyc 2.4.1 cannot compile `name in (*NAMES, "other")`, which mypy --strict accepts.
#
# It ends with an internal error (an AssertionError of its own) that names the file and the line, and compiles nothing of the
# whole build. The same tuple bound to a name first compiles, and so does one without a star. So a project that passes mypy may
# still need changes before mypyc can compile it, and one such expression stops the build of all its modules.
#
# Needs Python 3.11 or newer; no C compiler is needed, because the error comes before any C is compiled. Installs pinned
# packages into a temporary folder. No server is reached. Exits with 0 while the behaviour is as described.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check mypy==2.4.1 setuptools==82.0.1

cat > star.py <<'EOF2'
OPEN: tuple[str, ...] = ("requires_action", "requires_confirmation")


def can_be_canceled(status: str) -> bool:
    return status in (*OPEN, "requires_capture")
EOF2
cat > named.py <<'EOF2'
OPEN: tuple[str, ...] = ("requires_action", "requires_confirmation")
CANCELABLE: tuple[str, ...] = (*OPEN, "requires_capture")


def can_be_canceled(status: str) -> bool:
    return status in CANCELABLE
EOF2
cat > translate.py <<'EOF2'
import sys

from mypyc.build import mypycify

mypycify([sys.argv[1]])  # type checks and writes C; compiles none
EOF2

env/bin/mypy --version
echo "mypy --strict: $(env/bin/mypy --strict star.py named.py | tail -1)"
star=0; env/bin/python translate.py star.py > star.txt 2>&1 || star=$?
named=0; env/bin/python translate.py named.py > named.txt 2>&1 || named=$?
echo "mypyc on 'status in (*OPEN, …)': exit $star; $(grep -m1 'star.py' star.txt)"
echo "mypyc on the same tuple with a name: exit $named"
if [ "$star" != 0 ] && grep -q "internal mypyc error" star.txt && [ "$named" = 0 ]; then
    echo "As described: mypyc cannot compile the star; mypy accepts it."
else
    echo "Changed."
    exit 1
fi
