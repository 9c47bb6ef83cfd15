"""Persons who were imported, and who are erased by the command line, in a test's own deployments."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, LiteralString

import httpx
import psycopg

from tests.erasure.stage import JOBS, PREVIEW
from tests.serving.process import SERVICE_KEY, run_ledger
from tests.webhooks.receiver import wait_until

MARK = "mark-of-"
"""In every text of a person, before the id."""
ERASED_SECONDS = 60.0

# A page of an erasure that is kept in a step is refused before its commit, and done again.
_KEEP = """
CREATE TABLE public.kept (subject text, step text);
GRANT SELECT ON public.kept TO PUBLIC;
CREATE FUNCTION public.keep_in_step() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM public.kept k WHERE k.subject = ANY (OLD.subjects) AND k.step = OLD.step) THEN
        RAISE EXCEPTION 'kept in %', OLD.step USING ERRCODE = 'lock_not_available';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER keep_in_step BEFORE UPDATE OF moved_at ON ledger.erasures FOR EACH ROW
    EXECUTE FUNCTION public.keep_in_step();
"""
_KEEP_ONE = "INSERT INTO public.kept VALUES (%s, %s)"
_RELEASE = "DELETE FROM public.kept"
_REQUESTED = "SELECT originator_id FROM ledger.events WHERE topic = 'redaction_job.run_requested'"
_WHERE = "SELECT step, obstacle FROM ledger.erasures WHERE job = %s"
_KEYS = """
SELECT subject FROM ledger.data_keys
WHERE wrapped IS NOT NULL AND (subject = ANY (%(persons)s::text[]) OR erasing_since IS NOT NULL)
"""


class Persons:
    """Persons in a database: imports, erasures and what is left of them. `settings`: of each command."""

    def __init__(self, dsn: str, folder: Path, **settings: Any) -> None:
        self.dsn = dsn
        self.folder = folder
        self._settings = {"database_url": dsn, "secret_key": SERVICE_KEY} | settings
        self._charges: dict[str, int] = {}

    def through(self, dsn: str, **settings: Any) -> Persons:
        """The same persons in another database, or in this one by another address."""
        other = Persons(dsn, self.folder, **self._settings | {"database_url": dsn} | settings)
        other._charges = self._charges
        return other

    def run(self, *arguments: str, **settings: Any) -> str:
        """The output of a command that succeeds."""
        done = run_ledger(self.folder / "cli", *arguments, **self._settings | settings)
        assert done.returncode == 0, done
        return done.stdout

    def create_secret(self) -> str:
        """A key of the API for the account of the persons."""
        return self.run("keys", "create", self._account).split()[3]

    @property
    def _account(self) -> str:
        accounts = self._fetch("SELECT id FROM ledger.accounts")
        return str(accounts[0][0]) if accounts else self.run("accounts", "create", "Shop").strip()

    def plant(self, charges: Mapping[str, int]) -> None:
        """Import persons, each with so many charges."""
        self._charges |= charges
        lines: list[dict[str, Any]] = []
        for customer, count in charges.items():
            lines.append({"op": "customer", "id": customer, "name": f"{MARK}{customer}"})
            lines += [
                {"op": "charge", "id": f"ch_{customer}_{n}", "customer": customer, "amount": 100 + n,
                 "currency": "usd", "description": f"{MARK}{customer}"}
                for n in range(count)
            ]  # fmt: skip
        file = self.folder / "persons.ndjson"
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        self.run("import", str(file), "--account", self._account)

    def request(self, customer: str) -> str:
        """Begin the erasure of a person. Returns the job."""
        made = json.loads(self.run("erase", customer, "--why", "request 1", "--yes", "--json"))
        return str(made["id"])

    def request_by_api(self, url: str, secret: str, customer: str) -> str:
        """The same as a client of the API does it."""
        with httpx.Client(base_url=url, auth=(secret, ""), timeout=30, headers=PREVIEW) as http:
            job = str(http.post(JOBS, data={"objects[customers][0]": customer}).json()["id"])
            wait_until(lambda: http.get(f"{JOBS}/{job}").json()["status"] == "ready")
            assert http.post(f"{JOBS}/{job}/run").status_code == 200
        return job

    def wait_until_kept(self, job: str, step: str, reason: str = "kept in") -> None:
        """Wait until the erasure cannot leave this step, for this reason."""

        def is_kept() -> bool:
            where = self._fetch(_WHERE, job)
            return bool(where) and where[0][0] == step and reason in (where[0][1] or "")

        wait_until(is_kept, seconds=ERASED_SECONDS)

    def wait_until_erased(self, job: str) -> None:
        """Wait until the erasure has ended."""
        wait_until(lambda: [row[0] for row in self._fetch(_WHERE, job)] == ["ended"], seconds=ERASED_SECONDS)

    @contextmanager
    def erase_as_far_as(self, customers: Sequence[str], steps: Sequence[str]) -> Iterator[list[str]]:
        """Begin the erasures of the customers, and keep each in its step until the block ends: the step is
        done again and again, and never committed. Yields the jobs, once they are that far."""
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            conn.execute(_KEEP)
            conn.cursor().executemany(_KEEP_ONE, list(zip(customers, steps, strict=True)))
        try:
            with ThreadPoolExecutor(2) as threads:
                jobs = list(threads.map(self.request, customers))
            for job, step in zip(jobs, steps, strict=True):
                self.wait_until_kept(job, step)
            yield jobs
        finally:
            self.release()

    def release(self) -> None:
        """Keep no erasure in a step any more, also in a copy of a database in which that was done."""
        with psycopg.connect(self.dsn) as conn:
            conn.execute(_RELEASE)

    def list_erasures(self) -> list[str]:
        """The jobs whose erasures have begun, once all that were requested have."""

        def find() -> list[Any]:
            requested = self._fetch(_REQUESTED)
            begun = self._fetch("SELECT job FROM ledger.erasures")
            return begun if len(begun) == len(requested) else []

        return [job for (job,) in wait_until(find, seconds=ERASED_SECONDS)]

    def has_signing_key(self) -> bool:
        """Whether the log has begun to be signed, so that what a later one signs can be checked."""
        return bool(self._fetch("SELECT FROM ledger.signing_keys"))

    def list_keys(self, *customers: str) -> list[str]:
        """The subjects among these, or being erased, whose key is still there."""
        return [subject for (subject,) in self._fetch(_KEYS, {"persons": list(customers)})]

    def check_certificate(self, job: str) -> None:
        """It verifies with the job's files and the log's key alone."""
        folder = self.folder / f"certificate of {job}"
        self.run("erase", "certificate", job, "--out", str(folder))
        key = json.loads(self.run("audit", "keys", "--json"))[0]["key"]
        (folder / "policy").write_text(f"log {key}\nquorum none\n")
        files = (str(folder / f"{job}.certificate"), "--streams", str(folder / f"{job}.streams"))
        assert "Signed" in self.run("verify-erasure", *files, "--policy", str(folder / "policy"))

    def check_shown(self, url: str, secret: str, *erased: str) -> None:
        """The service at `url` shows nothing of the erased persons, and everything of all others."""
        with httpx.Client(base_url=url, auth=(secret, ""), timeout=30) as http:
            for customer, charges in self._list_some():
                paths = [f"/v1/customers/{customer}"]
                paths += [f"/v1/charges/ch_{customer}_{n}" for n in range(0, charges, max(charges // 3, 1))]
                for path in paths:
                    answer = http.get(path)
                    assert answer.status_code == 200, answer.text
                    assert (f"{MARK}{customer}" in answer.text) is (customer not in erased), (
                        path,
                        answer.text,
                    )

    def _list_some(self) -> list[tuple[str, int]]:
        """All who have charges, and some of the others."""
        alone = [customer for customer, charges in self._charges.items() if not charges]
        return [each for each in self._charges.items() if each[1] or each[0] in alone[::100]]

    def _fetch(self, query: LiteralString, parameters: Any = None) -> list[Any]:
        if isinstance(parameters, str):
            parameters = (parameters,)
        with psycopg.connect(self.dsn) as conn:
            return conn.execute(query, parameters).fetchall()
