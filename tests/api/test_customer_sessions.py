"""Creating a customer session (contract §2.1)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.service import Caller, Registrar, assert_refused, ok

DEFAULTS: dict[str, dict[str, Any] | None] = {
    "active_entitlements": None,
    "buy_button": None,
    "customer_portal": None,
    "customer_sheet": {
        "payment_method_allow_redisplay_filters": ["always"],
        "payment_method_remove": "disabled",
    },
    "mobile_payment_element": {
        "payment_method_allow_redisplay_filters": ["always"],
        "payment_method_redisplay": "disabled",
        "payment_method_remove": "disabled",
        "payment_method_save": "disabled",
        "payment_method_save_allow_redisplay_override": None,
    },
    "payment_element": {
        "payment_method_allow_redisplay_filters": ["always"],
        "payment_method_redisplay": "disabled",
        "payment_method_redisplay_limit": 3,
        "payment_method_remove": "disabled",
        "payment_method_save": "disabled",
        "payment_method_save_usage": None,
    },
    "pricing_table": None,
}
SWITCHES = ["enabled", "disabled"]
REDISPLAY = ["always", "limited", "unspecified"]
FEATURES = [
    (component, feature, value)
    for component, feature, values in [
        ("customer_sheet", "payment_method_remove", SWITCHES),
        ("mobile_payment_element", "payment_method_redisplay", SWITCHES),
        ("mobile_payment_element", "payment_method_remove", SWITCHES),
        ("mobile_payment_element", "payment_method_save", SWITCHES),
        ("mobile_payment_element", "payment_method_save_allow_redisplay_override", REDISPLAY),
        ("payment_element", "payment_method_redisplay", SWITCHES),
        ("payment_element", "payment_method_redisplay_limit", ["1", "10"]),
        ("payment_element", "payment_method_remove", SWITCHES),
        ("payment_element", "payment_method_save", SWITCHES),
        ("payment_element", "payment_method_save_usage", ["off_session", "on_session"]),
    ]
    for value in values
]


@pytest.fixture
def customer(raw: Caller) -> str:
    made: str = raw.customer()["id"]
    return made


def _create(raw: Caller, customer: str, form: str) -> Any:
    return raw.post("/v1/customer_sessions", f"customer={customer}&{form}")


@pytest.mark.parametrize("component", DEFAULTS)
@pytest.mark.contract(
    "2.1 param components",
    "2.1 field object",
    "2.1 field components",
    "2.1 field created, expires_at",
    "2.1 field customer",
    "2.1 field customer_account",
    "2.1 active_entitlements, buy_button, customer_portal, pricing_table",
)
def test_one_component_enabled_has_its_defaults_and_the_others_are_off(
    raw: Caller, customer: str, component: str
) -> None:
    made = ok(_create(raw, customer, f"components[{component}][enabled]=true"))
    assert set(made) == {
        "object", "client_secret", "components", "created", "customer", "customer_account",
        "expires_at", "livemode",
    }  # fmt: skip
    expected: dict[str, Any] = {}
    for name, features in DEFAULTS.items():
        expected[name] = {"enabled": name == component}
        if features is not None:
            expected[name]["features"] = features if name == component else None
    assert made["components"] == expected
    assert (made["object"], made["customer"], made["customer_account"], made["livemode"]) == (
        "customer_session",
        customer,
        None,
        False,
    )
    assert made["expires_at"] == made["created"] + 1800


@pytest.mark.parametrize(("component", "feature", "value"), FEATURES)
@pytest.mark.contract(
    "2.1 param components[X][features]",
    "2.1 customer_sheet",
    "2.1 mobile_payment_element",
    "2.1 payment_element",
)
def test_a_feature_takes_each_of_its_values(
    raw: Caller, customer: str, component: str, feature: str, value: str
) -> None:
    form = f"components[{component}][enabled]=true&components[{component}][features][{feature}]={value}"
    defaults = DEFAULTS[component]
    assert defaults is not None
    assert ok(_create(raw, customer, form))["components"][component] == {
        "enabled": True,
        "features": {**defaults, feature: int(value) if value.isdigit() else value},
    }


@pytest.mark.parametrize("component", ["customer_sheet", "mobile_payment_element", "payment_element"])
def test_filters_are_a_list(raw: Caller, customer: str, component: str) -> None:
    name = f"components[{component}][features][payment_method_allow_redisplay_filters]"
    form = f"components[{component}][enabled]=true&{name}[]=limited&{name}[]=unspecified"
    features = ok(_create(raw, customer, form))["components"][component]["features"]
    assert features["payment_method_allow_redisplay_filters"] == ["limited", "unspecified"]
    assert_refused(
        _create(raw, customer, f"components[{component}][enabled]=true&{name}[0]=often"), param=f"{name}[0]"
    )


@pytest.mark.contract("2.1 param components[X][enabled]")
def test_other_components_may_be_named_as_disabled(raw: Caller, customer: str) -> None:
    form = "&".join(f"components[{name}][enabled]={str(name == 'buy_button').lower()}" for name in DEFAULTS)
    components = ok(_create(raw, customer, form))["components"]
    assert [name for name, component in components.items() if component["enabled"]] == ["buy_button"]


@pytest.mark.contract("2.1 none or several enabled")
def test_exactly_one_is_enabled(raw: Caller, customer: str) -> None:
    for form in (
        "components[buy_button][enabled]=false",
        "components[buy_button][enabled]=true&components[pricing_table][enabled]=true",
        "&".join(f"components[{name}][enabled]=true" for name in DEFAULTS),
    ):
        assert_refused(_create(raw, customer, form), param="components")


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("", {"code": "parameter_missing", "param": "components"}),
        ("components=", {"code": "parameter_invalid_empty", "param": "components"}),
        ("components=x", {"param": "components"}),
        ("components[buy_button]=true", {"param": "components[buy_button]"}),
        (
            "components[buy_button][features][x]=1",
            {"code": "parameter_unknown", "param": "components[buy_button][features]"},
        ),
        ("components[button][enabled]=true", {"code": "parameter_unknown", "param": "components[button]"}),
        (
            "components[customer_sheet][features][payment_method_save]=enabled",
            {
                "code": "parameter_unknown",
                "param": "components[customer_sheet][features][payment_method_save]",
            },
        ),
        (
            "components[payment_element][features][payment_method_save]=enabled",
            {"code": "parameter_missing", "param": "components[payment_element][enabled]"},
        ),
        ("components[buy_button][enabled]=1", {"param": "components[buy_button][enabled]"}),
        (
            "components[buy_button][enabled]=true&customer_account=acct_x",
            {"param": "customer_account"},
        ),
    ],
)
@pytest.mark.contract(
    "2.1 param customer_account", "2.1 unknown component or feature", "2.1 enabled missing inside a component"
)
def test_wrong_parameters_are_refused(
    raw: Caller, customer: str, form: str, expected: dict[str, Any]
) -> None:
    assert_refused(_create(raw, customer, form), **expected)


@pytest.mark.contract("2.1 param customer", "2.1 unknown or deleted customer")
def test_a_customer_is_required_and_must_exist(raw: Caller, customer: str, registrar: Registrar) -> None:
    form = "components[buy_button][enabled]=true"
    assert_refused(raw.post("/v1/customer_sessions", form), code="parameter_missing", param="customer")
    stranger = Caller(raw.http, registrar.account().secret)
    charge = raw.charge()["id"]
    for caller, missing in ((raw, "cus_x"), (stranger, customer), (raw, charge)):
        assert_refused(_create(caller, missing, form), code="resource_missing", param="customer")
    ok(raw.delete(f"/v1/customers/{customer}"))
    assert_refused(_create(raw, customer, form), code="resource_missing", param="customer")


@pytest.mark.contract("2.1 limit out of 1 to 10")
@pytest.mark.parametrize("limit", [0, 11, -1])
def test_a_limit_is_from_1_to_10(raw: Caller, customer: str, limit: int) -> None:
    name = "components[payment_element][features][payment_method_redisplay_limit]"
    form = f"components[payment_element][enabled]=true&{name}={limit}"
    assert_refused(_create(raw, customer, form), code="parameter_invalid_integer", param=name)


@pytest.mark.contract("2.1 param expand")
def test_the_customer_expands_and_components_are_always_complete(raw: Caller, customer: str) -> None:
    form = "components[buy_button][enabled]=true&expand[]=customer&expand[]=components"
    made = ok(_create(raw, customer, form))
    assert made["customer"] == ok(raw.get(f"/v1/customers/{customer}"))
    assert len(made["components"]) == 7
    assert_refused(_create(raw, customer, "components[buy_button][enabled]=true&expand[]=client_secret"),
            message="cannot be expanded")  # fmt: skip


@pytest.mark.contract("2.1 no components or no customer")
def test_components_and_a_customer_are_required(raw: Caller, customer: str) -> None:
    path, components = "/v1/customer_sessions", "components[buy_button][enabled]=true"
    assert_refused(raw.post(path, f"customer={customer}"), code="parameter_missing", param="components")
    assert_refused(raw.post(path, components), code="parameter_missing", param="customer")


@pytest.mark.contract("2.1 field client_secret", "2.1 field livemode", "4.2 none")
def test_a_session_makes_no_event_and_each_has_its_own_secret(
    raw: Caller, live: Caller, customer: str
) -> None:
    form = "components[buy_button][enabled]=true"
    secrets = {ok(_create(raw, customer, form))["client_secret"] for _ in range(20)}
    assert len(secrets) == 20
    assert all(secret.startswith("cuss_secret_") and len(secret) >= 40 for secret in secrets)
    assert [event["type"] for event in raw.events()] == ["customer.created"]
    theirs = live.customer()["id"]
    assert ok(_create(live, theirs, form))["livemode"] is True
