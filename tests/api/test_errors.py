"""Every reachable row of the error table (contract §1.6), one test per row, and the order of the checks
(§1.5)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.service import Account, Caller, assert_refused, ok
from tests.contract import rows

SESSION = "components[payment_element][enabled]=true&components[payment_element][features]"
LIMIT = "components[payment_element][features][payment_method_redisplay_limit]"

FORMS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "unknown parameter": (
        "/v1/customers",
        "nmae=x",
        {
            "code": "parameter_unknown",
            "param": "nmae",
            "message": "^Received unknown parameter: nmae. Did you mean name\\?$",
        },
    ),
    "unknown nested parameter": (
        "/v1/customers",
        "address[planet]=x",
        {
            "code": "parameter_unknown",
            "param": "address[planet]",
            "message": r"^Received unknown parameter: address\[planet\]$",
        },
    ),
    "known to the SDK, not served": (
        "/v1/customers",
        "test_clock=clock_1",
        {"param": "test_clock", "message": "not supported"},
    ),
    "required missing": (
        "/v1/charges",
        "currency=usd",
        {
            "code": "parameter_missing",
            "param": "amount",
            "message": r"^Missing required param: amount\.$",
        },
    ),
    "required missing within": (
        "/v1/customer_sessions",
        "customer=cus_x&components[buy_button][x]=1",
        {"code": "parameter_unknown", "param": "components[buy_button][x]"},
    ),
    "enabled missing": (
        "/v1/customer_sessions",
        "customer=cus_x&components[payment_element][features][payment_method_remove]=enabled",
        {"code": "parameter_missing", "param": "components[payment_element][enabled]"},
    ),
    "empty where not unsettable": (
        "/v1/charges",
        "amount=100&currency=usd&source=",
        {
            "code": "parameter_invalid_empty",
            "param": "source",
            "message": "^You passed an empty string for 'source'",
        },
    ),
    "not an integer": (
        "/v1/charges",
        "amount=abc&currency=usd",
        {
            "code": "parameter_invalid_integer",
            "param": "amount",
            "message": "^Invalid integer: abc$",
        },
    ),
    "a fraction is no integer": (
        "/v1/charges",
        "amount=1.5&currency=usd",
        {"code": "parameter_invalid_integer", "param": "amount", "message": r"^Invalid integer: 1\.5$"},
    ),
    "integer below minimum": (
        "/v1/customer_sessions",
        f"customer=cus_x&components[payment_element][enabled]=true&{LIMIT}=0",
        {
            "code": "parameter_invalid_integer",
            "param": LIMIT,
            "message": r"^This value must be greater than or equal to 1\.$",
        },
    ),
    "integer above maximum": (
        "/v1/customer_sessions",
        f"customer=cus_x&components[payment_element][enabled]=true&{LIMIT}=11",
        {
            "code": "parameter_invalid_integer",
            "param": LIMIT,
            "message": r"^This value must be less than or equal to 10\.$",
        },
    ),
    "not a boolean": (
        "/v1/charges",
        "amount=100&currency=usd&capture=yes",
        {"param": "capture", "message": "^Invalid boolean: yes$"},
    ),
    "hash where string": (
        "/v1/customers",
        "name[first]=x",
        {"param": "name", "message": r'^Invalid string: \{"first": ?"x"\}$'},
    ),
    "array where string": (
        "/v1/customers",
        "name[]=x",
        {"param": "name", "message": "^Invalid string: "},
    ),
    "string where hash": (
        "/v1/customers",
        "address=x",
        {"param": "address", "message": "^Invalid object$"},
    ),
    "string where array": (
        "/v1/customers",
        "preferred_locales=en",
        {"param": "preferred_locales", "message": "^Invalid array$"},
    ),
    "string where metadata": (
        "/v1/customers",
        "metadata=x",
        {"param": "metadata", "message": "^Invalid object$"},
    ),
    "value not in enum": (
        "/v1/customers",
        "tax_exempt=maybe",
        {
            "param": "tax_exempt",
            "message": "^Invalid tax_exempt: must be one of none, exempt, or reverse$",
        },
    ),
    "nested value not in enum": (
        "/v1/customer_sessions",
        "customer=cus_x&components[payment_element][enabled]=true"
        "&components[payment_element][features][payment_method_save]=on",
        {
            "param": "components[payment_element][features][payment_method_save]",
            "message": r"must be one of disabled or enabled$",
        },
    ),
    "string too long": (
        "/v1/customers",
        "email=" + "e" * 513,
        {"param": "email", "message": "^Invalid string: .*; must be at most 512 characters$"},
    ),
    "object named in a parameter missing": (
        "/v1/charges",
        "amount=100&currency=usd&customer=cus_x",
        {
            "code": "resource_missing",
            "param": "customer",
            "message": "^No such customer: 'cus_x'$",
        },
    ),
    "token missing": (
        "/v1/charges",
        "amount=100&currency=usd&source=tok_x",
        {"code": "resource_missing", "param": "source", "message": "^No such token: 'tok_x'$"},
    ),
    "scalar and hash under one name": (
        "/v1/customers",
        "address=x&address[city]=y",
        {"param": "address", "message": "."},
    ),
    "array item": (
        "/v1/customers",
        "preferred_locales[0]=en&preferred_locales[7][x]=y",
        {"param": "preferred_locales[7]", "message": "^Invalid string"},
    ),
    "expand of what cannot be expanded": (
        "/v1/customers",
        "expand[]=name",
        {"message": r"^This property cannot be expanded \(name\)\.$"},
    ),
    "expand too deep": (
        "/v1/customers",
        "expand[]=a.b.c.d.e",
        {"message": r"^You cannot expand more than 4 levels of a property\. Property: a\.b\.c\.d\.e$"},
    ),
}


@rows("1.6", FORMS)
def test_a_wrong_parameter(raw: Caller, row: str) -> None:
    path, form, error = FORMS[row]
    assert_refused(raw.post(path, form), **error)
    assert raw.events() == []


LISTS: dict[str, tuple[str, dict[str, Any]]] = {
    "bad cursor": (
        "/v1/disputes?starting_after=du_x",
        {
            "code": "resource_missing",
            "param": "starting_after",
            "message": "^No such dispute: 'du_x'$",
        },
    ),
    "bad cursor backwards": (
        "/v1/customers?ending_before=cus_x",
        {
            "code": "resource_missing",
            "param": "ending_before",
            "message": "^No such customer: 'cus_x'$",
        },
    ),
    "cursor that is no id at all": (
        "/v1/events?starting_after=%F0%9F%98%80",
        {"code": "resource_missing", "param": "starting_after", "message": "^No such event: '😀'$"},
    ),
    "limit not an integer": (
        "/v1/charges?limit=ten",
        {"code": "parameter_invalid_integer", "param": "limit", "message": "^Invalid integer: ten$"},
    ),
    "unknown operator": (
        "/v1/charges?created[x]=1",
        {"code": "parameter_unknown", "param": "created[x]"},
    ),
    "operator not an integer": (
        "/v1/charges?created[gte]=today",
        {"code": "parameter_invalid_integer", "param": "created[gte]"},
    ),
    "unknown list parameter": (
        "/v1/events?nmae=x",
        {"code": "parameter_unknown", "param": "nmae"},
    ),
    "expand without data": (
        "/v1/disputes?expand[]=charge",
        {
            "message": r"^This property cannot be expanded \(charge\)\. "
            r"You may want to try expanding 'data\.charge' instead\.$"
        },
    ),
    "expand of what cannot be expanded": (
        "/v1/disputes?expand[]=data.reason",
        {"message": r"^This property cannot be expanded \(data\.reason\)\.$"},
    ),
    "expand deeper than four levels": (
        "/v1/disputes?expand[]=data.charge.customer.default_source.customer",
        {"message": "^You cannot expand more than 4 levels of a property"},
    ),
    "disputes of an unknown charge": (
        "/v1/disputes?charge=ch_x",
        {"code": "resource_missing", "param": "charge", "message": "^No such charge: 'ch_x'$"},
    ),
    "disputes of an unknown payment intent": (
        "/v1/disputes?payment_intent=pi_x",
        {"code": "resource_missing", "param": "payment_intent"},
    ),
    "charges of an unknown customer": (
        "/v1/charges?customer=cus_x",
        {"code": "resource_missing", "param": "customer"},
    ),
    "21 types": (
        "/v1/events?" + "&".join(["types[]=charge.failed"] * 21),
        {"param": "types"},
    ),
    "type and types": (
        "/v1/events?type=charge.failed&types[]=charge.failed",
        {"param": "type"},
    ),
}


@pytest.mark.contract("4.3 type and types, more than 20")
@rows("1.6", LISTS)
def test_a_wrong_list(raw: Caller, row: str) -> None:
    path, error = LISTS[row]
    assert_refused(raw.get(path), **error)


@pytest.mark.contract("1.6 both cursors")
def test_an_invalid_cursor_is_reported_before_the_use_of_both(raw: Caller) -> None:
    customer = raw.customer()["id"]
    error = assert_refused(raw.get(f"/v1/customers?starting_after={customer}&ending_before={customer}"))
    assert error["message"] == (
        "Received both starting_after and ending_before parameters. Please pass in only one."
    )
    assert_refused(
        raw.get(f"/v1/customers?starting_after={customer}&ending_before=cus_x"),
        code="resource_missing",
        param="ending_before",
    )


MISSING = [
    ("GET", "/v1/customers/{}", "customer", "id"),
    ("POST", "/v1/customers/{}", "customer", "id"),
    ("DELETE", "/v1/customers/{}", "customer", "id"),
    ("GET", "/v1/charges/{}", "charge", "id"),
    ("POST", "/v1/charges/{}", "charge", "id"),
    ("POST", "/v1/charges/{}/capture", "charge", "id"),
    ("GET", "/v1/disputes/{}", "dispute", "dispute"),
    ("POST", "/v1/disputes/{}", "dispute", "dispute"),
    ("POST", "/v1/disputes/{}/close", "dispute", "dispute"),
    ("GET", "/v1/charges/{}/refunds", "charge", "id"),
    ("GET", "/v1/refunds/{}", "refund", "refund"),
    ("POST", "/v1/refunds/{}", "refund", "refund"),
    ("POST", "/v1/refunds/{}/cancel", "refund", "refund"),
    ("GET", "/v1/events/{}", "event", "id"),
]


@pytest.mark.parametrize(("method", "path", "noun", "param"), MISSING)
@pytest.mark.contract("1.6 object in the path missing")
def test_a_missing_object_in_the_path_is_404(
    raw: Caller, method: str, path: str, noun: str, param: str
) -> None:
    assert_refused(
        raw.call(method, path.format("nothing_1")),
        404,
        code="resource_missing",
        param=param,
        message=f"^No such {noun}: 'nothing_1'$",
    )


@pytest.mark.parametrize(("method", "path", "noun", "param"), [row for row in MISSING if row[2] != "event"])
@pytest.mark.contract("1.6 exists in the other mode")
def test_an_object_of_the_other_mode_is_missing_with_a_hint(
    raw: Caller, live: Caller, method: str, path: str, noun: str, param: str
) -> None:
    made = _one_of(raw, noun)
    assert_refused(
        live.call(method, path.format(made)),
        404,
        code="resource_missing",
        param=param,
        message=f"^No such {noun}: '{made}'; a similar object exists in test mode, but a live mode key was "
        r"used to make this request\.$",
    )


def test_a_named_object_of_the_other_mode_is_missing_with_a_hint(raw: Caller, live: Caller) -> None:
    hint = "a similar object exists in live mode, but a test mode key was used to make this request."
    customer = live.customer()["id"]
    for form in ("amount=100&currency=usd&customer=", "components[buy_button][enabled]=true&customer="):
        path = "/v1/charges" if "amount" in form else "/v1/customer_sessions"
        assert_refused(
            raw.post(path, form + customer),
            code="resource_missing",
            param="customer",
            message=f"^No such customer: '{customer}'; {hint}$",
        )
    assert_refused(
        raw.get(f"/v1/charges?customer={customer}"), code="resource_missing", param="customer", message=hint
    )


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/foo"),
        ("GET", "/v1/"),
        ("GET", "/v1/customers/cus_1/unknown"),
        ("POST", "/v1/customers/cus_1/close"),
        ("PUT", "/v1/customers"),
        ("PATCH", "/v1/customers/cus_1"),
        ("DELETE", "/v1/charges/ch_1"),
        ("POST", "/v1/events"),
        ("POST", "/v1/events/evt_1"),
        ("GET", "/v1/customer_sessions"),
        ("GET", "/v1/customer_sessions/cuss_1"),
        ("GET", "/v1/disputes/"),
        ("GET", "/v1//customers"),
        ("POST", "/v1/disputes"),
        ("GET", "/v1/disputes/du_1/close"),
        ("GET", "/v1/customers/search"),
        ("GET", "/v1/charges/search"),
    ],
)
@pytest.mark.contract("1.6 unknown URL or method")
def test_an_unknown_url_or_method_is_404(raw: Caller, method: str, path: str) -> None:
    assert_refused(
        raw.call(method, path),
        404,
        message=f"^Unrecognized request URL \\({method}: {path}\\)\\. .",
    )


def test_checks_come_in_the_contracts_order(raw: Caller, nobody: Caller, account: Account) -> None:
    """Authentication, URL, version, account, idempotency, parameters and expand, lookup, state."""
    wrong = {"stripe-version": "1999-01-01", "stripe-account": "acct_x"}
    assert_refused(nobody.call("POST", "/v1/nothing", "nmae=x", wrong), 401)
    assert_refused(raw.call("POST", "/v1/nothing", "nmae=x", wrong), 404)
    error = assert_refused(raw.call("POST", "/v1/charges/ch_x", "nmae=x", wrong))
    assert error["message"] == "Invalid Stripe API version: 1999-01-01"
    del wrong["stripe-version"]
    assert_refused(raw.call("POST", "/v1/charges/ch_x", "nmae=x", wrong), 403, code="account_invalid")
    ok(raw.post("/v1/customers", "name=x", idempotency_key="used"))
    error = assert_refused(
        raw.post("/v1/charges/ch_x", "nmae=x", idempotency_key="used"), kind="idempotency_error"
    )
    assert "'used'" in error["message"]
    assert_refused(raw.post("/v1/charges/ch_x", "nmae=x"), code="parameter_unknown", param="nmae")
    assert_refused(raw.post("/v1/charges/ch_x", "expand[]=name"), message="cannot be expanded")
    assert_refused(raw.post("/v1/charges/ch_x"), 404, code="resource_missing", param="id")
    dispute = raw.dispute()["id"]
    ok(raw.post(f"/v1/disputes/{dispute}/close"))
    assert_refused(raw.post(f"/v1/disputes/{dispute}/close", "expand[]=reason"), message="cannot be expanded")
    assert_refused(raw.post(f"/v1/disputes/{dispute}/close"), message="^This dispute is already closed$")


def _one_of(caller: Caller, noun: str) -> str:
    made: str
    match noun:
        case "customer":
            made = caller.customer()["id"]
        case "charge":
            made = caller.charge()["id"]
        case "dispute":
            made = caller.dispute()["id"]
        case "refund":
            made = caller.refund()["id"]
        case _:
            caller.customer()
            made = caller.events()[0]["id"]
    return made


def test_a_named_payment_intent_of_the_other_mode_is_missing_with_a_hint(raw: Caller, live: Caller) -> None:
    intent = ok(live.post("/v1/payment_intents", {"amount": 2000, "currency": "usd"}))["id"]
    answers = [raw.get(f"/v1/{name}?payment_intent={intent}") for name in ("charges", "refunds", "disputes")]
    for answer in (*answers, raw.post("/v1/refunds", {"payment_intent": intent})):
        assert_refused(
            answer,
            code="resource_missing",
            param="payment_intent",
            message=f"^No such payment_intent: '{intent}'; a similar object exists in live mode",
        )
