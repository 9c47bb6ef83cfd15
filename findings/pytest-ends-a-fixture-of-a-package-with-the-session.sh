#!/usr/bin/env bash
# pytest 9.2.0: a fixture of scope "package" lives until the end of the session in a folder without __init__.py.
#
# A folder of tests with a conftest.py is a package only if it has an __init__.py. In a folder without one, which is what
# the import mode `importlib` is for, scope "package" is accepted and means "session": the fixture is made once and ended after
# the last test of all folders. Nothing says so, and for most fixtures nothing is wrong. What holds something of the process
# is: Playwright's sync API keeps an event loop in the thread of the tests, so every later `asyncio.run` in other folders
# fails with "cannot be called from a running event loop"; run alone, or in another order, they pass. With an __init__.py
# the same fixture ends with its folder. What helps without: scope "module".
#
# Needs Python 3.11 or newer. Installs pinned packages into a temporary folder. Exits with 0 while the behaviour is as
# described.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check pytest==9.2.0
mkdir tests tests/first tests/second
cat > tests/first/conftest.py <<'PY'
import pytest


@pytest.fixture(scope="package")
def thing():
    print("\nmade for first/")
    yield
    print("\nended")
PY
echo 'def test_with_the_thing(thing): pass' > tests/first/test_first.py
echo 'def test_of_another_folder(): print("a test of second/")' > tests/second/test_second.py

order() {
    env/bin/python -m pytest -q -s -p no:cacheprovider --import-mode=importlib tests |
        grep -oE 'made for first/|ended|a test of second/' | paste -sd ',' | sed 's/,/, /g'
}
env/bin/python -m pytest --version
without=$(order)
echo "  without __init__.py: $without"
touch tests/first/__init__.py
with=$(order)
echo "  with __init__.py:    $with"
if [ "$without" = "made for first/, a test of second/, ended" ] &&
    [ "$with" = "made for first/, ended, a test of second/" ]; then
    echo "As described: the fixture of a folder outlived it."
else
    echo "Changed."
    exit 1
fi

# Output seen:
#   pytest 9.2.0
#     without __init__.py: made for first/, a test of second/, ended
#     with __init__.py:    made for first/, ended, a test of second/
#   As described: the fixture of a folder outlived it.
