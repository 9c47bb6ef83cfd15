"""Operating the projections over HTTP: what a worker is told to do, what is told, and what is refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from ledger.accounts import INTERNAL_SCOPES
from projections.read_models.catalog import PROJECTIONS
from tests.api.service import Account, Caller, Registrar, Service, assert_refused, ok
from tests.conftest import Cluster
from tests.internal.conftest import InternalClient

WAIT_SECONDS = 40.0
NO_SCOPE = tuple(scope for scope in INTERNAL_SCOPES if scope != "projections")

# Each page waits for the test, its rows written and not committed.
GATE = """
CREATE FUNCTION public.gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(7);
    RETURN NEW;
END $$;
CREATE TRIGGER gate BEFORE UPDATE ON projections.shares FOR EACH ROW EXECUTE FUNCTION public.gate();
"""
WAITING = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND NOT granted"

# A service of this module's own: what is done here other tests need not live with.


@pytest.fixture(scope="module")
def service(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    place: Path = tmp_path_factory.mktemp("projections")
    with cluster.create_database() as dsn:
        service = Service(dsn, place)
        yield service
        service.stop()


@pytest.fixture(scope="module")
def registrar(service: Service) -> Iterator[Registrar]:
    registrar = Registrar(service.dsn)
    yield registrar
    registrar.close()


@pytest.fixture(scope="module")
def http(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=30) as http:
        yield http


@pytest.fixture
def sql(service: Service) -> Iterator[Callable[[str], Any]]:
    """Faults, put into the database by hand."""
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        yield lambda statement: conn.execute(statement.encode())


def wait_until(holds: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT_SECONDS
    while not (found := holds()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def get_projection(operator: InternalClient, name: str) -> Any:
    return ok(operator.get(f"/projections/{name}"))


def wait_until_done(sql: Callable[[str], Any], rebuild: int) -> Any:
    """Its state, and whether each event was filled once."""
    return sql(
        "SELECT state, events = (SELECT sum(events) FROM projections.shares WHERE rebuild = r.id) "
        f"FROM projections.rebuilds r WHERE id = {rebuild}"
    ).fetchone()


def read_metric(http: httpx.Client, name: str, projection: str, generation: int) -> float:
    line = f'{name}{{generation="{generation}",projection="{projection}"}} '
    (found,) = [each for each in http.get("/metrics").text.splitlines() if each.startswith(line)]
    return float(found.removeprefix(line))


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("GET", "/disputes"), ("POST", "/disputes/rebuild"), ("POST", "/disputes/rollback")],
)
def test_a_refusal_names_the_scope_that_the_key_lacks(
    http: httpx.Client, registrar: Registrar, account: Account, method: str, path: str
) -> None:
    for key in (account.secret, registrar.key(account.id, "rk", scopes=NO_SCOPE)[1]):
        answer = InternalClient(http, key).call(
            method, f"/projections{path}", {} if method == "POST" else None
        )
        assert_refused(answer, 403, code="more_permissions_required", message="scope 'projections'")


@pytest.mark.parametrize(
    "operation",
    [
        "rebuild", "pause", "resume", "cancel", "switch", "rollback", "retire", "verify",
        "parked/cus_1/retry", "",
    ],
)  # fmt: skip
def test_an_unknown_projection_is_not_found(operator: InternalClient, operation: str) -> None:
    path = f"/projections/nothing/{operation}".rstrip("/")
    answer = operator.post(path, {}) if operation else operator.get(path)
    assert_refused(
        answer, 404, code="resource_missing", param="name", message="No such projection: 'nothing'"
    )


@pytest.mark.parametrize(
    ("operation", "body", "code", "param"),
    [
        ("rebuild", {"workers": 0}, None, "workers"),
        ("rebuild", {"workers": "2"}, None, "workers"),
        ("rebuild", {"wrokers": 2}, "parameter_unknown", "wrokers"),
        ("rebuild", {"accept_differences": True}, "parameter_missing", "reason"),
        ("switch", {"accept_differences": True, "reason": " "}, "parameter_missing", "reason"),
        ("pause", {"why": "x"}, "parameter_unknown", "why"),
        ("retire", {"generation": 0}, None, "generation"),
        ("verify", {"sample": 100_000}, None, "sample"),
    ],
)
def test_an_invalid_body_is_refused_by_parameter_and_changes_nothing(
    operator: InternalClient, operation: str, body: Any, code: str | None, param: str
) -> None:
    answer = operator.post(f"/projections/disputes/{operation}", body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param), error
    assert code is None or error["code"] == code
    assert ok(operator.get("/projections"))["rebuilds"] == []


@pytest.mark.parametrize(
    ("operation", "body", "message"),
    [
        ("pause", None, "disputes is not being rebuilt"),
        ("cancel", None, "disputes is not being rebuilt"),
        ("switch", {"generation": 9}, "no generation 9"),
        ("switch", {"accept_differences": True, "reason": "why not"}, "disputes is not being rebuilt"),
        ("rollback", None, "nothing to roll back to"),
        ("retire", {"generation": 1}, "generation 1 of disputes is live"),
    ],
)
def test_an_action_that_the_state_does_not_allow_is_a_conflict(
    operator: InternalClient, operation: str, body: Any, message: str
) -> None:
    answer = operator.post(f"/projections/disputes/{operation}", body)
    assert_refused(answer, 409, code="projection_state", message=message)


def test_all_projections_are_listed_and_described_with_examples(operator: InternalClient) -> None:
    told = ok(operator.get("/projections"))
    assert [each["name"] for each in told["data"]] == sorted(each.name for each in PROJECTIONS)
    paths = ok(operator.http.get("/openapi.json"))["paths"]
    assert len([path for path in paths if path.startswith("/internal/v1/projections")]) == 16
    entry = paths["/internal/v1/projections/{name}"]["get"]
    example = entry["responses"]["200"]["content"]["application/json"]["example"]
    real = get_projection(operator, "refunds")
    assert set(example) == set(real)
    assert set(example["generations"][0]) == set(real["generations"][0])


def test_a_requested_rebuild_is_driven_by_the_services_own_worker(
    operator: InternalClient, raw: Caller, service: Service, sql: Callable[[str], Any]
) -> None:
    made = raw.dispute()
    sql(GATE)
    with psycopg.connect(service.dsn, autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(7)")
        asked = ok(operator.post("/projections/disputes/rebuild", {"workers": 2, "reason": "a column"}))
        assert (asked["state"], asked["workers"], asked["builds"][0]["generation"]) == ("filling", 2, 2)
        conflict = operator.post("/projections/disputes/rebuild", {})
        assert_refused(
            conflict,
            409,
            code="projection_state",
            message=f"rebuild {asked['id']} of disputes, started by key_",
        )
        told = wait_until(
            lambda: (
                (now := get_projection(operator, "disputes")["rebuild"])["driven"] and now["total"] and now
            )
        )
        assert (told["state"], told["events"], told["seconds_left"]) == ("filling", 0, None)
        assert told["bytes"] > 0
        assert ok(operator.get("/projections"))["rebuilds"][0]["id"] == asked["id"]
        wait_until(lambda: holder.execute(WAITING).fetchall())
        assert ok(operator.post("/projections/disputes/pause"))["paused"]
        holder.execute("SELECT pg_advisory_unlock(7)")
        wait_until(lambda: not get_projection(operator, "disputes")["rebuild"]["driven"])
        assert get_projection(operator, "disputes")["live"] == 1
        assert not ok(operator.post("/projections/disputes/resume"))["paused"]
    wait_until(lambda: get_projection(operator, "disputes")["rebuild"] is None)

    found = get_projection(operator, "disputes")
    assert (found["live"], [each["state"] for each in found["generations"]]) == (2, ["kept", "live"])
    done_to_it = [each["action"] for each in found["operations"]]
    assert done_to_it == ["switch", "compare", "resume", "pause", "rebuild"]
    assert {each["who"][:4] for each in found["operations"]} == {"key_"}
    assert found["operations"][-1]["reason"] == "a column"
    assert wait_until_done(sql, asked["id"]) == ("switched", True)
    assert ok(raw.get("/v1/disputes"))["data"] == [made]

    # A call is repeated when its response was lost: a second rollback would switch forward.
    again = {"idempotency_key": "night-shift"}
    for _ in range(2):
        back = ok(operator.post("/projections/disputes/rollback", {"reason": "to be sure"}, **again))
    assert back["live"] == 1
    assert ok(raw.get("/v1/disputes"))["data"] == [made]
    for path, body in (("rollback", {"reason": "another"}), ("switch", {"generation": 2})):
        answer = operator.post(f"/projections/disputes/{path}", body, **again)
        assert_refused(answer, 400, message="used with the same parameters", kind="idempotency_error")
    assert get_projection(operator, "disputes")["live"] == 1
    assert ok(operator.post("/projections/disputes/switch", {"generation": 2}))["live"] == 2


def test_several_projections_are_rebuilt_in_one_pass_and_their_old_generations_retired(
    operator: InternalClient,
) -> None:
    answer = operator.post("/projections/rebuild", {"names": ["refunds", "nothing"]})
    assert_refused(
        answer, 400, code="resource_missing", param="names", message="No such projection: 'nothing'"
    )
    assert operator.post("/projections/rebuild", {"names": []}).json()["error"]["param"] == "names"
    answer = operator.get("/projections/refunds/diff")
    assert_refused(answer, 409, code="projection_state", message="refunds has not been compared")
    asked = {"names": ["refunds", "files"], "reason": "two at once"}
    for _ in range(2):
        begun = ok(operator.post("/projections/rebuild", asked, idempotency_key="both"))
    assert [each["projection"] for each in begun["builds"]] == ["files", "refunds"]
    wait_until(lambda: not ok(operator.get("/projections"))["rebuilds"])
    for name in ("refunds", "files"):
        compared = ok(operator.get(f"/projections/{name}/diff"))
        assert (compared["rebuild"], compared["equal"], compared["differences"]) == (begun["id"], True, [])
        left = ok(operator.post(f"/projections/{name}/retire", {"reason": "no way back"}))
        assert [each["generation"] for each in left["generations"]] == [2]


def test_a_repeated_call_is_answered_with_the_rebuild_that_its_key_began(operator: InternalClient) -> None:
    first: dict[str, Any] = {"idempotency_key": "first-rebuild"}
    begun = ok(operator.post("/projections/files/rebuild", {"reason": "one"}, **first))
    wait_until(lambda: get_projection(operator, "files")["rebuild"] is None)
    later = ok(operator.post("/projections/files/rebuild", {"reason": "two"}))
    assert later["id"] > begun["id"]
    again = ok(operator.post("/projections/files/rebuild", {"reason": "one"}, **first))
    assert (again["id"], again["reason"], again["state"]) == (begun["id"], "one", "switched")
    wait_until(lambda: get_projection(operator, "files")["rebuild"] is None)


def test_differing_rows_are_reported_and_the_rebuilt_ones_promoted_when_accepted(
    operator: InternalClient, raw: Caller, http: httpx.Client, sql: Callable[[str], Any]
) -> None:
    customer = raw.customer(email="jenny@example.com")
    assert ok(raw.get("/v1/customers?limit=1"))["data"] == [customer]
    live = get_projection(operator, "customers")["live"]
    sql(f"UPDATE projections.customers SET email = 'drifted' WHERE id = '{customer['id']}'")
    verified = wait_until(
        lambda: (
            (found := ok(operator.post("/projections/customers/verify", {"sample": 1000})))["differing"]
            and found
        )
    )
    assert customer["id"] in verified["keys"]
    assert read_metric(http, "ledger_differing_rows", "customers", live) >= 1

    ok(operator.post("/projections/customers/rebuild", {}))
    told = wait_until(
        lambda: (found := get_projection(operator, "customers")["rebuild"])["state"] == "differing" and found
    )
    assert get_projection(operator, "customers")["live"] == live
    compared = get_projection(operator, "customers")["operations"][0]
    (difference,) = compared["details"]["differences"]
    assert difference == {"key": customer["id"], "live": {"email": "…"}, "other": {"email": "…"}}
    building = told["builds"][0]["generation"]
    for path, body, message in (
        ("switch", {}, "Look at the differences with `diff`"),
        ("switch", {"generation": building}, f"rebuild {told['id']} is building"),
        ("retire", {"generation": building}, f"rebuild {told['id']} is building"),
        ("pause", {}, "waits for a decision"),
    ):
        answer = operator.post(f"/projections/customers/{path}", body)
        assert_refused(answer, 409, code="projection_state", message=message)
    switched = operator.post(
        "/projections/customers/switch", {"accept_differences": True, "reason": "it had drifted"}
    )
    assert ok(switched)["live"] == told["builds"][0]["generation"]
    assert get_projection(operator, "customers")["operations"][0]["reason"] == "it had drifted"
    assert read_metric(http, "ledger_differing_rows", "customers", ok(switched)["live"]) == 0


def test_a_projection_that_cannot_be_verified_is_refused_with_the_reason(
    operator: InternalClient, sql: Callable[[str], Any]
) -> None:
    table = f"file_links_g{get_projection(operator, 'file_links')['live']}"
    sql(f"ALTER TABLE projections.{table} RENAME TO elsewhere")
    answer = operator.post("/projections/file_links/verify", {})
    sql(f"ALTER TABLE projections.elsewhere RENAME TO {table}")
    assert_refused(answer, 409, code="projection_state", message="file_links: not verified: UndefinedTable")
    assert ok(operator.post("/projections/file_links/verify", {}))["error"] is None


def test_a_parked_stream_is_reported_everywhere_until_it_is_retried(
    operator: InternalClient, raw: Caller, http: httpx.Client, sql: Callable[[str], Any]
) -> None:
    good = raw.customer(email="good@example.com")
    generation = get_projection(operator, "customers")["live"]
    assert "ledger-incomplete" not in raw.get("/v1/customers").headers
    newest = sql("SELECT max(position) FROM projections.customers").fetchone()[0]
    sql(f"ALTER TABLE projections.customers ADD CONSTRAINT fault CHECK (position <= {newest}) NOT VALID")
    bad = raw.customer(email="bad@example.com")
    listed = raw.get("/v1/customers")
    assert bad["id"] not in [each["id"] for each in ok(listed)["data"]]
    assert good["id"] in [each["id"] for each in ok(listed)["data"]]
    assert listed.headers["ledger-incomplete"] == "true"
    assert ok(raw.get(f"/v1/customers/{bad['id']}")) == bad
    assert raw.events()[-1]["data"]["object"]["id"] == bad["id"], "the other views go on"
    assert http.get("/readyz").json()["incomplete"] == ["customers"]
    assert read_metric(http, "ledger_parked_streams", "customers", generation) == 1
    told = get_projection(operator, "customers")
    assert told["incomplete"]
    (parked,) = next(each for each in told["generations"] if each["live"])["parked"]
    assert parked["stream"] == bad["id"]
    assert "fault" in parked["error"]
    assert "bad@example.com" not in str(told)

    retry = f"/projections/customers/parked/{bad['id']}/retry"
    assert generation in ok(operator.post(retry))["left_out_of"]
    sql("ALTER TABLE projections.customers DROP CONSTRAINT fault")
    again = {"idempotency_key": "the-answer-was-lost"}
    for _ in range(2):
        assert ok(operator.post(retry, {"reason": "mended"}, **again))["healed"]
    assert_refused(operator.post(retry), 409, code="projection_state", message="is not parked in")
    retried = get_projection(operator, "customers")["operations"][0]
    assert (retried["action"], retried["reason"]) == ("retry", "mended")
    assert retried["details"] == {"stream": bad["id"], "healed": True}
    assert ok(raw.get("/v1/customers?limit=1"))["data"] == [bad]
    assert "ledger-incomplete" not in raw.get("/v1/customers").headers
    assert not get_projection(operator, "customers")["incomplete"]
    assert http.get("/readyz").json()["incomplete"] == []
    assert read_metric(http, "ledger_parked_streams", "customers", generation) == 0


def test_readiness_and_metrics_leave_out_a_projection_that_only_another_release_has(
    http: httpx.Client, sql: Callable[[str], Any], registrar: Registrar
) -> None:
    """Once the workers of that release have been stopped it lags until it is retired: nobody reads it."""
    sql("INSERT INTO projections.checkpoints (projection, generation) VALUES ('gone', 1)")
    sql("INSERT INTO projections.live (projection, generation) VALUES ('gone', 1)")
    sql("INSERT INTO projections.parked VALUES ('gone', 1, 'cus_1', 1, 'unknown_topic: x')")
    try:
        names = {each["projection"] for each in http.get("/readyz").json()["projections"]}
        assert names == {projection.name for projection in PROJECTIONS}
        assert "gone" not in http.get("/metrics").text
    finally:
        for table in ("parked", "live", "checkpoints"):
            sql(f"DELETE FROM projections.{table} WHERE projection = 'gone'")
