"""Apache Spark reads an archive, and answers the question of docs/audit/exports.md as the database does."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.api.service import Account, Service
from tests.audit.archived import ask_database, make_archive, read_statements
from tests.clients.program import SCRIPTS, find_python, needs, run_to_success
from tests.clients.shop import Shop

PROGRAM = "pyspark"
JAVA_MIN = 17
# It runs for seconds: optimising its code, and several threads for garbage, take longer than its work.
JAVA_OPTIONS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
pytestmark = needs(PROGRAM)


@pytest.fixture
def java() -> None:
    """Skips the test where there is no Java that is new enough."""
    program = shutil.which("java")
    if program is None:
        pytest.skip(f"no Java here (Debian: apt-get install openjdk-17-jre-headless); {JAVA_MIN} or newer")
    printed = subprocess.run([program, "-version"], capture_output=True, text=True, check=True).stderr
    major = re.search(r'version "(\d+)', printed)
    if major is None or int(major[1]) < JAVA_MIN:
        pytest.skip(f"{printed.partition(chr(10))[0]} is here; Java {JAVA_MIN} or newer is needed")


@pytest.mark.usefixtures("java")
def test_spark_answers_from_an_archive_as_the_database(
    service: Service, account: Account, shop: Shop, tmp_path: Path
) -> None:
    archive = make_archive(service, tmp_path)
    statements = read_statements()[2].replace("archive-1", str(archive.folder))
    command = (find_python(PROGRAM), SCRIPTS / "ask_spark.py", statements)
    settings = {"SPARK_LOCAL_IP": "127.0.0.1", "JDK_JAVA_OPTIONS": JAVA_OPTIONS}
    answer = json.loads(run_to_success(command, tmp_path, settings))
    rows = sorted(tuple(row) for row in answer["rows"])
    assert [row for row in rows if row[0] == account.id]
    assert rows == ask_database(service, archive.upto)
