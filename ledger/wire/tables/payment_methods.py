"""The parameters of the operations on cards: sources of a customer, and payment methods (contract §2.5)."""

from __future__ import annotations

from ledger.wire.parameters import EXPAND, PAGINATION, ParameterTable, Unsupported
from ledger.wire.scalars import Choice, Parameter, Text

_TYPES = (
    "acss_debit", "affirm", "afterpay_clearpay", "alipay", "alma", "amazon_pay", "au_becs_debit",
    "bacs_debit", "bancontact", "billie", "bizum", "blik", "boleto", "card", "cashapp", "crypto", "custom",
    "customer_balance", "eps", "fpx", "giropay", "grabpay", "ideal", "kakao_pay", "klarna", "konbini",
    "kr_card", "link", "mb_way", "mobilepay", "multibanco", "naver_pay", "nz_bank_account", "oxxo", "p24",
    "pay_by_bank", "payco", "paynow", "paypal", "paypay", "payto", "pix", "promptpay", "revolut_pay",
    "samsung_pay", "satispay", "scalapay", "sepa_debit", "sequra", "sofort", "sunbit", "swish", "twint",
    "upi", "us_bank_account", "wechat_pay", "zip",
)  # fmt: skip

_FILTERS: dict[str, Parameter] = {
    "allow_redisplay": Choice(
        ("always", "limited", "unspecified"),
        description="Only payment methods with this `allow_redisplay` value.",
    ),
    "type": Choice(_TYPES, description="Only payment methods of this type."),
}

LIST = ParameterTable(
    {
        **PAGINATION,
        **_FILTERS,
        "customer": Text(description="Only payment methods of this customer."),
        "customer_account": Unsupported("API v2 accounts are not supported"),
    }
)

LIST_OF_CUSTOMER = ParameterTable({**PAGINATION, **_FILTERS})

RETRIEVE = ParameterTable({"expand": EXPAND})

LIST_SOURCES = ParameterTable(
    {
        **PAGINATION,
        "object": Text(description="Only sources of this type, for example `card` or `bank_account`."),
    }
)

RETRIEVE_SOURCE = ParameterTable({"expand": EXPAND})
