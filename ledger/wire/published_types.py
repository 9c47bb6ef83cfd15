"""The objects of other services that the public API shows (contract §2.13): their types, paths and lists.

A closed table, derived from the paths of stripe-python 16.1.0; tests/wire/test_published_types.py compares
them. Not in it: the ledger's own objects, what has one object an account (a balance, settings), previews, and
the stored secrets of apps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ledger.domain.redaction.documents import REDACTED

INDEXED_PARAMETERS = frozenset({"customer", "subscription", "status"})
"""The parameters of lists for whose members the rows of objects have columns."""


@dataclass(frozen=True, kw_only=True)
class ListFilter:
    """A parameter of a list, by which it filters.

    boolean   its values are true and false
    required  the list needs it
    served    whether the list can filter by it; if not, it is refused
    """

    name: str
    boolean: bool = False
    required: bool = False
    served: bool = True


@dataclass(frozen=True)
class PublishedType:
    """A type of object that other services publish.

    object_type  its member `object`
    path         of its list, without `/v1/`; empty for a type that is only listed below a customer
    parameters   of its list besides those for paging; `name?` is a boolean, `name!` is required, `-name` is
                 one that Stripe has and that is refused here
    lists        whether Stripe lists it
    has_stub     whether a deleted one is shown as `{id, object, deleted}`; else it is missing
    parts        members with a list of their own, at `…/{id}/{member}`
    of_customer  the segment of its list at `/v1/customers/{id}/{segment}`, if it has one
    """

    object_type: str
    path: str = ""
    parameters: str = ""
    lists: bool = field(default=True, kw_only=True)
    has_stub: bool = field(default=False, kw_only=True)
    parts: tuple[str, ...] = field(default=(), kw_only=True)
    of_customer: str | None = field(default=None, kw_only=True)

    @property
    def url(self) -> str:
        """The path of its list."""
        return f"/v1/{self.path}"

    @property
    def permission(self) -> str:
        """A restricted key needs `rak_<permission>_read` to see it (contract §1.2)."""
        return self.object_type.replace(".", "_")

    @property
    def has_created_filter(self) -> bool:
        """Whether its list takes `created`."""
        return "created" in self.parameters.split()

    @property
    def filters(self) -> tuple[ListFilter, ...]:
        """The parameters of its list, without `created` and those for paging."""
        return tuple(
            ListFilter(
                name=word.strip("-?!"),
                boolean=word.endswith("?"),
                required=word.endswith("!"),
                served=not word.startswith("-"),
            )
            for word in self.parameters.split()
            if word != "created"
        )


PUBLISHED_TYPES = (
    PublishedType("apple_pay_domain", "apple_pay/domains", "domain_name", has_stub=True),
    PublishedType("application_fee", "application_fees", "charge created", parts=("refunds",)),
    PublishedType(
        "apps.install", "apps/installs", "account app approval_required? channel created created_by status"
    ),
    PublishedType("billing.alert", "billing/alerts", "alert_type -meter"),
    PublishedType(
        "billing.credit_balance_transaction",
        "billing/credit_balance_transactions",
        "credit_grant customer -customer_account",
    ),
    PublishedType("billing.credit_grant", "billing/credit_grants", "customer customer_account"),
    PublishedType("billing.feedback_option", "billing/feedback_options", "status"),
    PublishedType("billing.meter", "billing/meters", "status"),
    PublishedType("billing_portal.configuration", "billing_portal/configurations", "active? is_default?"),
    PublishedType(
        "checkout.session",
        "checkout/sessions",
        "created customer customer_account -customer_details payment_intent payment_link status subscription",
        parts=("line_items",),
    ),
    PublishedType("climate.order", "climate/orders"),
    PublishedType("climate.product", "climate/products"),
    PublishedType("climate.supplier", "climate/suppliers"),
    PublishedType("country_spec", "country_specs"),
    PublishedType("coupon", "coupons", "created", has_stub=True),
    PublishedType(
        "credit_note", "credit_notes", "created customer customer_account invoice", parts=("lines",)
    ),
    PublishedType("entitlements.active_entitlement", "entitlements/active_entitlements", "customer!"),
    PublishedType("entitlements.feature", "entitlements/features", "-archived lookup_key"),
    PublishedType("customer_balance_transaction", lists=False, of_customer="balance_transactions"),
    PublishedType("customer_cash_balance_transaction", lists=False, of_customer="cash_balance_transactions"),
    PublishedType("exchange_rate", "exchange_rates"),
    PublishedType(
        "financial_connections.account", "financial_connections/accounts", "-account_holder -session"
    ),
    PublishedType(
        "financial_connections.transaction",
        "financial_connections/transactions",
        "account! -transacted_at -transaction_refresh",
    ),
    PublishedType("forwarding.request", "forwarding/requests", "created"),
    PublishedType(
        "identity.verification_report",
        "identity/verification_reports",
        "client_reference_id created type verification_session",
    ),
    PublishedType(
        "identity.verification_session",
        "identity/verification_sessions",
        "client_reference_id created related_customer related_customer_account status",
    ),
    PublishedType("invoice_payment", "invoice_payments", "created invoice -payment status"),
    PublishedType("invoice_rendering_template", "invoice_rendering_templates", "status"),
    PublishedType(
        "invoiceitem", "invoiceitems", "created customer customer_account invoice -pending", has_stub=True
    ),
    PublishedType(
        "invoice",
        "invoices",
        "collection_method created customer customer_account -due_date status subscription",
        has_stub=True,
        parts=("lines",),
    ),
    PublishedType("issuing.authorization", "issuing/authorizations", "card cardholder created status"),
    PublishedType("issuing.cardholder", "issuing/cardholders", "created email phone_number status type"),
    PublishedType(
        "issuing.card",
        "issuing/cards",
        "cardholder created -exp_month -exp_year last4 personalization_design status type",
    ),
    PublishedType("issuing.dispute", "issuing/disputes", "created status transaction"),
    PublishedType(
        "issuing.personalization_design",
        "issuing/personalization_designs",
        "-lookup_keys -preferences status",
    ),
    PublishedType("issuing.physical_bundle", "issuing/physical_bundles", "status type"),
    PublishedType("issuing.token", "issuing/tokens", "card! created status"),
    PublishedType("issuing.transaction", "issuing/transactions", "card cardholder created type"),
    PublishedType("payment_attempt_record", "payment_attempt_records", "payment_record!"),
    PublishedType("payment_link", "payment_links", "active?", parts=("line_items",)),
    PublishedType("payment_method_configuration", "payment_method_configurations", "active? application"),
    PublishedType("payment_method_domain", "payment_method_domains", "domain_name enabled?"),
    PublishedType("payment_record", "payment_records", "-created_after -created_before"),
    PublishedType("payout", "payouts", "-arrival_date created destination status"),
    PublishedType("plan", "plans", "active? created product", has_stub=True),
    PublishedType(
        "price", "prices", "active? created currency -lookup_keys product -recurring type", has_stub=True
    ),
    PublishedType("product_catalog.trial_offer", "product_catalog/trial_offers", "active? created -prices"),
    PublishedType(
        "product", "products", "active? created -ids shippable? type url", has_stub=True, parts=("features",)
    ),
    PublishedType(
        "promotion_code", "promotion_codes", "active? code -coupon created customer customer_account"
    ),
    PublishedType(
        "quote",
        "quotes",
        "customer customer_account status test_clock",
        parts=("line_items", "computed_upfront_line_items"),
    ),
    PublishedType("radar.early_fraud_warning", "radar/early_fraud_warnings", "charge created payment_intent"),
    PublishedType(
        "radar.value_list_item", "radar/value_list_items", "created value value_list!", has_stub=True
    ),
    PublishedType("radar.value_list", "radar/value_lists", "alias -contains created", has_stub=True),
    PublishedType("reporting.report_run", "reporting/report_runs", "created"),
    PublishedType("reporting.report_type", "reporting/report_types"),
    PublishedType("review", "reviews", "created"),
    PublishedType("setup_attempt", "setup_attempts", "created setup_intent!"),
    PublishedType(
        "setup_intent", "setup_intents", "attach_to_self? created customer customer_account payment_method"
    ),
    PublishedType("shipping_rate", "shipping_rates", "active? created -currency"),
    PublishedType("scheduled_query_run", "sigma/scheduled_query_runs"),
    PublishedType("subscription_item", "subscription_items", "subscription!", has_stub=True),
    PublishedType(
        "subscription_schedule",
        "subscription_schedules",
        "-canceled_at -completed_at created customer customer_account -released_at -scheduled",
    ),
    PublishedType(
        "subscription",
        "subscriptions",
        "-automatic_tax collection_method created -current_period_end -current_period_start customer "
        "customer_account -plan -price status test_clock",
        of_customer="subscriptions",
    ),
    PublishedType("tax.location", "tax/locations", "type!"),
    PublishedType("tax.registration", "tax/registrations", "status"),
    PublishedType("tax_code", "tax_codes"),
    PublishedType("tax_id", "tax_ids", "-owner", has_stub=True, of_customer="tax_ids"),
    PublishedType("tax_rate", "tax_rates", "active? created inclusive?"),
    PublishedType("terminal.configuration", "terminal/configurations", "is_account_default?", has_stub=True),
    PublishedType("terminal.location", "terminal/locations", has_stub=True),
    PublishedType(
        "terminal.reader", "terminal/readers", "device_type location serial_number status", has_stub=True
    ),
    PublishedType("test_helpers.test_clock", "test_helpers/test_clocks", has_stub=True),
    PublishedType("three_d_secure.authentication", "three_d_secure/authentications", "created status"),
    PublishedType("topup", "topups", "-amount created status"),
    PublishedType("transfer", "transfers", "created destination transfer_group", parts=("reversals",)),
    PublishedType(
        "treasury.credit_reversal", "treasury/credit_reversals", "financial_account! received_credit status"
    ),
    PublishedType(
        "treasury.debit_reversal",
        "treasury/debit_reversals",
        "financial_account! received_debit -resolution status",
    ),
    PublishedType("treasury.financial_account", "treasury/financial_accounts", "created status"),
    PublishedType("treasury.inbound_transfer", "treasury/inbound_transfers", "financial_account! status"),
    PublishedType(
        "treasury.outbound_payment",
        "treasury/outbound_payments",
        "created customer financial_account! status",
    ),
    PublishedType("treasury.outbound_transfer", "treasury/outbound_transfers", "financial_account! status"),
    PublishedType(
        "treasury.received_credit", "treasury/received_credits", "financial_account! -linked_flows status"
    ),
    PublishedType("treasury.received_debit", "treasury/received_debits", "financial_account! status"),
    PublishedType(
        "treasury.transaction_entry",
        "treasury/transaction_entries",
        "created -effective_at financial_account! -order_by transaction",
    ),
    PublishedType(
        "treasury.transaction",
        "treasury/transactions",
        "created financial_account! -order_by status -status_transitions",
    ),
    PublishedType("confirmation_token", "confirmation_tokens", lists=False),
    PublishedType("financial_connections.session", "financial_connections/sessions", lists=False),
    PublishedType("mandate", "mandates", lists=False),
    PublishedType("tax.calculation", "tax/calculations", lists=False, parts=("line_items",)),
    PublishedType("tax.transaction", "tax/transactions", lists=False, parts=("line_items",)),
    PublishedType("token", "tokens", lists=False),
)
PUBLISHED_TYPES_BY_NAME = {row.object_type: row for row in PUBLISHED_TYPES}

EXPANDABLE_MEMBERS = {
    "charge": "charge",
    "customer": "customer",
    "default_payment_method": "payment_method",
    "default_price": "price",
    "destination_payment": "charge",
    "invoice": "invoice",
    "latest_attempt": "setup_attempt",
    "latest_charge": "charge",
    "latest_invoice": "invoice",
    "latest_revision": "invoice",
    "originating_transaction": "charge",
    "payment_intent": "payment_intent",
    "payment_link": "payment_link",
    "payment_method": "payment_method",
    "pending_setup_intent": "setup_intent",
    "plan": "plan",
    "price": "price",
    "product": "product",
    "promotion_code": "promotion_code",
    "quote": "quote",
    "schedule": "subscription_schedule",
    "setup_intent": "setup_intent",
    "shipping_rate": "shipping_rate",
    "source_transaction": "charge",
    "subscription": "subscription",
    "subscription_schedule": "subscription_schedule",
    "tax_code": "tax_code",
    "test_clock": "test_helpers.test_clock",
}
"""Members of published objects that hold the id of an object, and its type. `expand[]` replaces them wherever
they are in the object; any other name in it has no effect."""


def format_filter(name: str, json: str) -> str:
    """A member and its value, as one text by which rows are found."""
    return f"{name}={json}"


def list_filter_texts(object_type: str, object: Mapping[str, Any]) -> list[str]:
    """The texts by which the lists of the type find the object: one for each parameter that is a member of
    it. In the place of an expanded object stands its id; nothing finds it by what has been erased."""
    published_type = PUBLISHED_TYPES_BY_NAME.get(object_type)
    texts = []
    for row in published_type.filters if published_type is not None else ():
        value = object.get(row.name)
        if isinstance(value, dict) and value.get("id") is not None:
            value = value["id"]
        if row.served and row.name not in INDEXED_PARAMETERS and value not in (None, REDACTED):
            texts.append(format_filter(row.name, msgspec.json.encode(value).decode()))
    return texts
