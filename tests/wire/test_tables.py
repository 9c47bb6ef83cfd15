"""Parameter tables compared with the params classes of the SDK, and the rules of single operations."""

from __future__ import annotations

import importlib
import re
import time
import typing
from collections.abc import Iterator
from typing import Any, ForwardRef, get_args, get_type_hints

import pytest
from stripe._request_options import RequestOptions

from ledger.domain import evidence
from ledger.errors import InvalidParameter
from ledger.wire import event_types
from ledger.wire.forms import DEPTH_MAX, NAME_LENGTH_MAX, decode
from ledger.wire.parameters import Array, Hash, ParameterTable, TimestampFilter, Unsupported
from ledger.wire.scalars import Boolean, Choice, Integer, Parameter, Text
from ledger.wire.tables import (
    accounts,
    balance,
    balance_transactions,
    charges,
    customer_sessions,
    customers,
    disputes,
    events,
    file_links,
    files,
    payment_intents,
    payment_methods,
    refunds,
    webhook_endpoints,
)
from ledger.wire.tables.file_links import TimestampOrNow
from ledger.wire.tables.payment_intents import OffSession

TABLES: dict[str, ParameterTable] = {
    "CustomerCreateParams": customers.CREATE,
    "CustomerModifyParams": customers.UPDATE,
    "CustomerUpdateParams": customers.UPDATE,
    "CustomerRetrieveParams": customers.RETRIEVE,
    "CustomerDeleteParams": customers.DELETE,
    "CustomerListParams": customers.LIST,
    "CustomerListPaymentMethodsParams": payment_methods.LIST_OF_CUSTOMER,
    "CustomerPaymentMethodListParams": payment_methods.LIST_OF_CUSTOMER,
    "CustomerPaymentMethodRetrieveParams": payment_methods.RETRIEVE,
    "CustomerListSourcesParams": payment_methods.LIST_SOURCES,
    "CustomerPaymentSourceListParams": payment_methods.LIST_SOURCES,
    "CustomerPaymentSourceRetrieveParams": payment_methods.RETRIEVE_SOURCE,
    "CustomerRetrieveSourceParams": payment_methods.RETRIEVE_SOURCE,
    "PaymentMethodListParams": payment_methods.LIST,
    "PaymentMethodRetrieveParams": payment_methods.RETRIEVE,
    "ChargeCreateParams": charges.CREATE,
    "ChargeModifyParams": charges.UPDATE,
    "ChargeUpdateParams": charges.UPDATE,
    "ChargeCaptureParams": charges.CAPTURE,
    "ChargeRetrieveParams": charges.RETRIEVE,
    "ChargeListParams": charges.LIST,
    "ChargeListRefundsParams": charges.LIST_REFUNDS,
    "PaymentIntentCreateParams": payment_intents.CREATE,
    "PaymentIntentModifyParams": payment_intents.UPDATE,
    "PaymentIntentUpdateParams": payment_intents.UPDATE,
    "PaymentIntentConfirmParams": payment_intents.CONFIRM,
    "PaymentIntentCaptureParams": payment_intents.CAPTURE,
    "PaymentIntentCancelParams": payment_intents.CANCEL,
    "PaymentIntentRetrieveParams": payment_intents.RETRIEVE,
    "PaymentIntentListParams": payment_intents.LIST,
    "RefundCreateParams": refunds.CREATE,
    "RefundModifyParams": refunds.UPDATE,
    "RefundUpdateParams": refunds.UPDATE,
    "RefundRetrieveParams": refunds.RETRIEVE,
    "RefundCancelParams": refunds.CANCEL,
    "RefundListParams": refunds.LIST,
    "CustomerSessionCreateParams": customer_sessions.CREATE,
    "DisputeModifyParams": disputes.UPDATE,
    "DisputeUpdateParams": disputes.UPDATE,
    "DisputeRetrieveParams": disputes.RETRIEVE,
    "DisputeCloseParams": disputes.CLOSE,
    "DisputeListParams": disputes.LIST,
    "BalanceTransactionRetrieveParams": balance_transactions.RETRIEVE,
    "BalanceTransactionListParams": balance_transactions.LIST,
    "FileCreateParams": files.CREATE,
    "FileRetrieveParams": files.RETRIEVE,
    "FileListParams": files.LIST,
    "FileLinkCreateParams": file_links.CREATE,
    "FileLinkModifyParams": file_links.UPDATE,
    "FileLinkUpdateParams": file_links.UPDATE,
    "FileLinkRetrieveParams": file_links.RETRIEVE,
    "FileLinkListParams": file_links.LIST,
    "WebhookEndpointCreateParams": webhook_endpoints.CREATE,
    "WebhookEndpointModifyParams": webhook_endpoints.UPDATE,
    "WebhookEndpointUpdateParams": webhook_endpoints.UPDATE,
    "WebhookEndpointRetrieveParams": webhook_endpoints.RETRIEVE,
    "WebhookEndpointDeleteParams": webhook_endpoints.DELETE,
    "WebhookEndpointListParams": webhook_endpoints.LIST,
    "EventRetrieveParams": events.RETRIEVE,
    "EventListParams": events.LIST,
    "AccountRetrieveCurrentParams": accounts.RETRIEVE,
    "AccountRetrieveParams": accounts.RETRIEVE,
    "AccountListParams": accounts.LIST,
    "AccountListCapabilitiesParams": accounts.LIST_CAPABILITIES,
    "AccountListExternalAccountsParams": accounts.LIST_EXTERNAL_ACCOUNTS,
    "AccountListPersonsParams": accounts.LIST_PERSONS,
    "BalanceRetrieveParams": balance.RETRIEVE,
}

REQUIRED_HERE_ONLY = {
    ("CustomerSessionCreateParams", "customer"),  # contract §2.1
    ("ChargeCreateParams", "amount"),
    ("ChargeCreateParams", "currency"),
}


OLD_NAMES = {"payment_method_types"}
"""Names that only clients before the SDK's version send."""
ONLY_CARDS = "allowed_payment_method_types"
"""A list of types, of which only one is accepted here."""


def _import_params_module(class_name: str) -> Any:
    snake = re.sub(r"(?<!^)([A-Z])", r"_\1", class_name).lower()
    return importlib.import_module(f"stripe.params._{snake}")


def _own_hints(cls: type, module: Any) -> dict[str, Any]:
    names = {**vars(typing), **vars(module), "UntypedStripeObject": dict, "StripeContext": object}
    hints = get_type_hints(cls, globalns=names, include_extras=False)
    return {name: hint for name, hint in hints.items() if name not in RequestOptions.__annotations__}


def _required(cls: Any) -> set[str]:
    """Read from the annotations: a TypedDict with string annotations does not know its required keys."""
    own = {name: str(cls.__annotations__[name]) for name in cls.__annotations__}
    return {name for name, text in own.items() if "NotRequired" not in text} - set(
        RequestOptions.__annotations__
    )


def _hash_classes(hint: Any) -> Iterator[type]:
    """The params classes that occur in a type hint."""
    if isinstance(hint, type) and hasattr(hint, "__total__"):
        yield hint
    for part in get_args(hint):
        assert not isinstance(part, ForwardRef), hint
        yield from _hash_classes(part)


def _members(parameter: Parameter) -> dict[str, Parameter] | None:
    if isinstance(parameter, Array):
        return _members(parameter.item)
    if isinstance(parameter, TimestampFilter):
        return parameter.operators()
    return dict(parameter.members) if isinstance(parameter, Hash) else None


def _compare(members: dict[str, Parameter], cls: type, module: Any, path: str) -> int:
    hints = _own_hints(cls, module)
    assert set(members) - OLD_NAMES == set(hints), path
    compared = len(hints)
    for name, hint in hints.items():
        parameter = members[name]
        if isinstance(parameter, Unsupported):
            continue
        if name in _required(cls):
            assert parameter.required, f"{path}[{name}]"
        elif (path, name) not in REQUIRED_HERE_ONLY:
            assert not parameter.required, f"{path}[{name}]"
        if "Literal['']" in str(hint):
            assert parameter.unsettable, f"{path}[{name}]"
        _compare_kind(parameter, hint, f"{path}[{name}]")
        inner = list(_hash_classes(hint))
        nested = _members(parameter)
        assert bool(inner) == (nested is not None), f"{path}[{name}]"
        if nested is not None:
            compared += _compare(nested, inner[0], module, f"{path}[{name}]")
    return compared


def _compare_kind(parameter: Parameter, hint: Any, path: str) -> None:
    text = str(hint)
    values = set(re.findall(r"'([a-z0-9_.*\-]+)'", text)) if "Literal" in text else set()
    of = parameter.item if isinstance(parameter, Array) else parameter
    assert isinstance(parameter, Array) == ("List[" in text), path
    if path.endswith(f"[{ONLY_CARDS}]"):
        assert isinstance(of, Text), path
        assert of.pattern in values, path
        return
    if isinstance(of, OffSession):
        assert (set(of.values), "bool" in text) == (values, True), path
        return
    if isinstance(of, TimestampOrNow):
        assert (values, "int" in text) == ({"now"}, True), path
        return
    if values:
        assert isinstance(of, Choice), path
        assert set(of.values) - event_types.PREVIEW_EVENT_TYPES == values, path
    assert isinstance(parameter, Boolean) == ("bool" in text), path
    if isinstance(of, Integer):
        assert hint is int, path
    if isinstance(of, Text):
        assert "str" in text, path


@pytest.mark.parametrize("class_name", TABLES)
def test_names_are_exactly_those_of_the_sdk(class_name: str) -> None:
    module = _import_params_module(class_name)
    compared = _compare(dict(TABLES[class_name].members), getattr(module, class_name), module, class_name)
    assert compared or class_name in ("CustomerDeleteParams", "WebhookEndpointDeleteParams")


def test_the_comparison_reaches_nested_parameters() -> None:
    module = _import_params_module("DisputeModifyParams")
    assert (
        _compare(dict(disputes.UPDATE.members), module.DisputeModifyParams, module, "DisputeModifyParams")
        == 72
    )


def _full_names(members: dict[str, Parameter], prefix: str = "") -> Iterator[str]:
    for name, parameter in members.items():
        full = f"{prefix}[{name}]" if prefix else name
        yield full
        nested = _members(parameter)
        if nested:
            yield from _full_names(nested, f"{full}[00]" if isinstance(parameter, Array) else full)


@pytest.mark.parametrize("class_name", TABLES)
def test_every_name_is_within_the_limits_of_forms(class_name: str) -> None:
    for name in _full_names(dict(TABLES[class_name].members)):
        assert name.count("[") <= DEPTH_MAX
        assert len(name) <= NAME_LENGTH_MAX


@pytest.mark.parametrize("class_name", TABLES)
def test_every_supported_parameter_has_a_description(class_name: str) -> None:
    table = TABLES[class_name]
    described = table.schema()["properties"]
    for name, parameter in table.members.items():
        assert isinstance(parameter, Unsupported) or described[name]["description"]
    assert len(table.query_parameters()) == len(described)


def test_a_session_names_customer_and_components() -> None:
    raw = b"customer=cus_1&components[pricing_table][enabled]=true"
    assert customer_sessions.CREATE.parse(decode(raw)) == {
        "customer": "cus_1",
        "components": {"pricing_table": {"enabled": True}},
    }


HOOK = b"url=https://hooks.example.com"
REFUSED: list[tuple[ParameterTable, bytes, str | None, str]] = [
    (customer_sessions.CREATE, b"customer=cus_1", "parameter_missing", "components"),
    (customer_sessions.CREATE, b"components[buy_button][enabled]=true", "parameter_missing", "customer"),
    (
        customer_sessions.CREATE,
        b"customer=c&components[x][enabled]=true",
        "parameter_unknown",
        "components[x]",
    ),
    (
        customer_sessions.CREATE,
        b"customer=c&components[buy_button][enabled]=true&components[buy_button][features][a]=1",
        "parameter_unknown",
        "components[buy_button][features]",
    ),
    (
        customer_sessions.CREATE,
        b"customer=c&components[payment_element][features][payment_method_save]=enabled",
        "parameter_missing",
        "components[payment_element][enabled]",
    ),
    (
        customer_sessions.CREATE,
        b"customer=c&components[payment_element][enabled]=true"
        b"&components[payment_element][features][payment_method_redisplay_limit]=11",
        "parameter_invalid_integer",
        "components[payment_element][features][payment_method_redisplay_limit]",
    ),
    (customer_sessions.CREATE, b"customer_account=acct_1", None, "customer_account"),
    (customers.CREATE, b"test_clock=clock_1", None, "test_clock"),
    (customers.CREATE, b"cash_balance[settings][reconciliation_mode]=manual", None, "cash_balance"),
    (customers.CREATE, b"invoice_prefix=ab", None, "invoice_prefix"),
    (customers.CREATE, b"email=" + b"a" * 513, None, "email"),
    (customers.CREATE, b"shipping[name]=A", "parameter_missing", "shipping[address]"),
    (customers.UPDATE, b"payment_method=pm_1", "parameter_unknown", "payment_method"),
    (customers.DELETE, b"expand[]=x", "parameter_unknown", "expand[0]"),
    (charges.CREATE, b"currency=usd", "parameter_missing", "amount"),
    (charges.CREATE, b"amount=50", "parameter_missing", "currency"),
    (charges.CREATE, b"amount=50&currency=dollars", None, "currency"),
    (charges.CREATE, b"amount=50&currency=usd&on_behalf_of=acct_1", None, "on_behalf_of"),
    (charges.UPDATE, b"amount=50", "parameter_unknown", "amount"),
    (disputes.UPDATE, b"evidence[nope]=1", "parameter_unknown", "evidence[nope]"),
    (disputes.UPDATE, b"evidence[uncategorized_text]=" + b"x" * 20_001, None, "evidence[uncategorized_text]"),
    (disputes.UPDATE, b"evidence[customer_name]=" + b"x" * 5_001, None, "evidence[customer_name]"),
    (
        disputes.UPDATE,
        b"evidence[enhanced_evidence][visa_compliance][fee_acknowledged]=false",
        None,
        "evidence[enhanced_evidence][visa_compliance][fee_acknowledged]",
    ),
    (
        disputes.UPDATE,
        b"evidence[enhanced_evidence][visa_compelling_evidence_3][prior_undisputed_transactions][1]"
        b"[customer_device_id]=too_short",
        None,
        "evidence[enhanced_evidence][visa_compelling_evidence_3][prior_undisputed_transactions][1]"
        "[customer_device_id]",
    ),
    (disputes.LIST, b"status=won", "parameter_unknown", "status"),
    (webhook_endpoints.CREATE, HOOK, "parameter_missing", "enabled_events"),
    (webhook_endpoints.CREATE, b"enabled_events[]=*", "parameter_missing", "url"),
    (webhook_endpoints.CREATE, HOOK + b"&enabled_events=", "parameter_invalid_empty", "enabled_events"),
    (webhook_endpoints.CREATE, HOOK + b"&enabled_events[0]=", "parameter_invalid_empty", "enabled_events[0]"),
    (webhook_endpoints.CREATE, HOOK + b"&enabled_events=*", None, "enabled_events"),
    (webhook_endpoints.CREATE, HOOK + b"&enabled_events[0]=charge.*", None, "enabled_events[0]"),
    (webhook_endpoints.CREATE, HOOK + b"&enabled_events[0]=*&enabled_events[1]=x", None, "enabled_events[1]"),
    (webhook_endpoints.CREATE, b"url=hooks.example.com&enabled_events[]=*", "url_invalid", "url"),
    (webhook_endpoints.CREATE, b"url=&enabled_events[]=*", "parameter_invalid_empty", "url"),
    (webhook_endpoints.CREATE, b"url[a]=1&enabled_events[]=*", None, "url"),
    (webhook_endpoints.CREATE, HOOK + b"&api_version=2026-01-01", None, "api_version"),
    (webhook_endpoints.CREATE, HOOK + b"&api_version=", "parameter_invalid_empty", "api_version"),
    (webhook_endpoints.CREATE, HOOK + b"&connect=1", None, "connect"),
    (webhook_endpoints.CREATE, HOOK + b"&disabled=true", "parameter_unknown", "disabled"),
    (webhook_endpoints.CREATE, HOOK + b"&description=" + b"x" * 5_001, None, "description"),
    (webhook_endpoints.UPDATE, b"api_version=2026-10-28.endive", "parameter_unknown", "api_version"),
    (webhook_endpoints.UPDATE, b"connect=true", "parameter_unknown", "connect"),
    (webhook_endpoints.UPDATE, b"disabled=yes", None, "disabled"),
    (webhook_endpoints.UPDATE, b"disabled=", "parameter_invalid_empty", "disabled"),
    (webhook_endpoints.UPDATE, b"url=", "parameter_invalid_empty", "url"),
    (webhook_endpoints.UPDATE, b"enabled_events=", "parameter_invalid_empty", "enabled_events"),
    (webhook_endpoints.UPDATE, b"url=https://a@b.example", "url_invalid", "url"),
    (webhook_endpoints.DELETE, b"expand[]=x", "parameter_unknown", "expand[0]"),
    (webhook_endpoints.LIST, b"created=1", "parameter_unknown", "created"),
    (events.LIST, b"type=a&types[]=b", None, "type"),
    (events.LIST, b"&".join([b"types[]=a"] * 21), None, "types"),
]


@pytest.mark.parametrize(("table", "raw", "code", "param"), REFUSED)
def test_an_operation_refuses_undeclared_parameters(
    table: ParameterTable, raw: bytes, code: str | None, param: str
) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        table.parse(decode(raw))
    assert (refusal.value.code, refusal.value.param) == (code, param)


def test_the_error_for_an_unknown_event_type_lists_the_nearest_types_first() -> None:
    with pytest.raises(InvalidParameter) as refusal:
        webhook_endpoints.CREATE.parse(decode(HOOK + b"&enabled_events[0]=dispute.created"))
    message = refusal.value.message
    assert message.startswith(
        "Invalid enabled_events[0]: must be one of charge.dispute.created, issuing_dispute.created, "
    )
    assert message.endswith(", or one of 276 more (see docs/wire-contract.md, Appendix A)")
    assert message.count(",") == 6


@pytest.mark.parametrize(
    ("table", "raw", "suggestion"),
    [
        (customers.CREATE, b"metdata[a]=1", "metadata"),
        (customers.CREATE, b"address[line_1]=x", "address[line1]"),
        (disputes.UPDATE, b"receipt=file_1", "evidence[receipt]"),
        (disputes.UPDATE, b"evidence[reciept]=file_1", "evidence[receipt]"),
        (customers.CREATE, b"zebra=x", None),
        (charges.CREATE, b"transfer_dta[a]=x", None),  # no service of the parameter that is much like it
    ],
)
def test_an_unknown_parameter_is_answered_with_the_one_that_was_meant(
    table: ParameterTable, raw: bytes, suggestion: str | None
) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        table.parse(decode(raw))
    name = raw.decode().partition("=")[0]
    expected = f"Received unknown parameter: {name}" + (f". Did you mean {suggestion}?" if suggestion else "")
    assert (refusal.value.message, refusal.value.param) == (expected, name)


def test_a_long_name_costs_no_more_than_a_short_one_to_refuse() -> None:
    started = time.perf_counter()
    for _ in range(5):
        with pytest.raises(InvalidParameter):
            webhook_endpoints.CREATE.parse(decode(HOOK + b"&enabled_events[0]=" + b"charge" * 10_000))
    assert time.perf_counter() - started < 2


def test_every_event_type_can_be_enabled_at_once() -> None:
    names = ["*", *event_types.ORDERED_EVENT_TYPES]
    raw = "&".join(f"enabled_events[{number}]={name}" for number, name in enumerate(names))
    parsed = webhook_endpoints.UPDATE.parse(decode(raw.encode() + b"&description=&metadata=&disabled=false"))
    assert parsed == {"enabled_events": names, "description": None, "metadata": None, "disabled": False}
    assert len(names) == 281


def test_evidence_is_parsed_with_all_fields() -> None:
    ce3 = b"evidence[enhanced_evidence][visa_compelling_evidence_3]"
    raw = b"&".join(
        [
            b"evidence[uncategorized_text]=" + b"x" * 20_000,
            b"evidence[receipt]=file_1",
            b"evidence[customer_name]=",
            b"evidence[appeal][card][supporting_files][0]=file_2",
            ce3 + b"[prior_undisputed_transactions][0][charge]=ch_1",
            ce3 + b"[disputed_transaction][shipping_address][city]=Paris",
            b"submit=false",
        ]
    )
    assert disputes.UPDATE.parse(decode(raw)) == {
        "evidence": {
            "uncategorized_text": "x" * 20_000,
            "receipt": "file_1",
            "customer_name": None,
            "appeal": {"card": {"supporting_files": ["file_2"]}},
            "enhanced_evidence": {
                "visa_compelling_evidence_3": {
                    "prior_undisputed_transactions": [{"charge": "ch_1"}],
                    "disputed_transaction": {"shipping_address": {"city": "Paris"}},
                }
            },
        },
        "submit": False,
    }


def test_the_evidence_fields_are_those_of_the_contract() -> None:
    assert (len(evidence.LONG_TEXT_FIELDS), len(evidence.SHORT_TEXT_FIELDS), len(evidence.FILE_FIELDS)) == (
        8,
        10,
        9,
    )
    assert set(disputes.EVIDENCE) == {
        *evidence.LONG_TEXT_FIELDS, *evidence.SHORT_TEXT_FIELDS, *evidence.FILE_FIELDS, "appeal",
        "enhanced_evidence"
    }  # fmt: skip
