"""Currencies, amounts, fees and movements of money, in integer arithmetic only.

Amounts are integers in the minor unit of a lower-case ISO currency. `Terms` are settings of the deployment;
domain events record what was decided with them (a fee, a date), so changing a term never changes history.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict

from ledger.errors import InvalidParameter

DAY_SECONDS = 86_400

_CURRENCIES = (
    "aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd bwp byn bzd cad cdf"
    " chf clp cny cop crc cve czk djf dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gnf gtq gyd hkd hnl htg"
    " huf idr ils inr isk jmd jod jpy kes kgs khr kmf krw kwd kyd kzt lak lbp lkr lrd lsl mad mdl mga mkd mmk"
    " mnt mop mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd omr pab pen pgk php pkr pln pyg qar ron rsd rub"
    " rwf sar sbd scr sek sgd shp sle sos srd std szl thb tjs tnd top try ttd twd tzs uah ugx usd uyu uzs vnd"
    " vuv wst xaf xcd xof xpf yer zar zmw"
)
CURRENCIES = frozenset(_CURRENCIES.split())
# isk and ugx have no minor unit, but Stripe gives their amounts two decimals, which must be zero; the third
# decimal of an amount must be zero, too. Source: https://docs.stripe.com/currencies and contract §1.11.
_ZERO_DECIMAL = frozenset(
    {"bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"}
)
_THREE_DECIMAL = frozenset({"bhd", "jod", "kwd", "omr", "tnd"})
_AMOUNT_STEPS = {"isk": 100, "ugx": 100} | dict.fromkeys(_THREE_DECIMAL, 10)
_SYMBOLS = {
    "usd": "$",
    "eur": "€",
    "gbp": "£",
    "jpy": "¥",
    "cad": "CA$",
    "aud": "A$",
    "inr": "₹",
    "brl": "R$",
}

# Stripe's published minimums (https://docs.stripe.com/currencies); in other currencies the minimum is 1.
_CHARGE_MINIMUMS = {
    "usd": 50, "aed": 200, "aud": 50, "bgn": 100, "brl": 50, "cad": 50, "chf": 50, "czk": 1500, "dkk": 250,
    "eur": 50, "gbp": 30, "hkd": 400, "huf": 17500, "inr": 50, "jpy": 50, "mxn": 1000, "myr": 200, "nok": 300,
    "nzd": 50, "pln": 200, "ron": 200, "sek": 300, "sgd": 50, "thb": 1000,
}  # fmt: skip
CHARGE_AMOUNT_MAX = 99_999_999
"""Eight digits, in every currency."""

# The processing fee: 2.9 % and a fixed part worth about 0.30 usd.
_FEE_PER_MILLE = 29
_FIXED_FEES = {
    "usd": 30, "aed": 100, "aud": 30, "bgn": 50, "brl": 39, "cad": 30, "chf": 30, "czk": 650, "dkk": 180,
    "eur": 25, "gbp": 20, "hkd": 235, "huf": 8500, "inr": 300, "jpy": 40, "mxn": 300, "myr": 100, "nok": 200,
    "nzd": 30, "pln": 100, "ron": 100, "sek": 180, "sgd": 50, "thb": 1000,
}  # fmt: skip
_DISPUTE_FEES = {
    "usd": 1500, "aud": 2500, "cad": 1500, "chf": 2000, "dkk": 12500, "eur": 2000, "gbp": 2000, "hkd": 8500,
    "huf": 500_000, "inr": 150_000, "jpy": 1500, "krw": 15_000, "mxn": 30_000, "nok": 15_000, "nzd": 2500,
    "pln": 8000, "sek": 15_000, "sgd": 1500,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The deployment's settings for money, deadlines and limits.

    dispute_fees            fee in minor units by currency, where it differs from the default
    fee_credited_on_win     whether a won dispute returns the fee
    due_days                days until evidence is due; the last day ends at 23:59:59 UTC
    session_seconds         lifetime of a customer session
    webhook_endpoints_max   largest number of webhook endpoints of an account in one mode
    """

    dispute_fees: Mapping[str, int] = field(default_factory=dict)
    fee_credited_on_win: bool = False
    due_days: int = 8
    session_seconds: int = 1800
    webhook_endpoints_max: int = 16

    def get_dispute_fee(self, currency: str) -> int:
        """The fee for a withdrawal, in minor units; 15 major units of a currency without a fee of its own."""
        fee = self.dispute_fees.get(currency, _DISPUTE_FEES.get(currency))
        return 15 * 10 ** get_decimal_places(currency) if fee is None else fee

    def compute_due_by(self, now: int) -> int:
        """The last second, in UTC, of the day that is `due_days` after `now` (both in unix seconds)."""
        return (now // DAY_SECONDS + self.due_days + 1) * DAY_SECONDS - 1


class Movement(TypedDict):
    """Money moved by one domain event, as that event records it.

    id            id of the balance transaction
    amount, fee   minor units. `amount` is positive if the merchant receives money; the merchant's balance
                  changes by `amount - fee`
    created       unix seconds
    available_on  unix seconds from which the merchant can use the money
    """

    id: str
    amount: int
    fee: int
    currency: str
    created: int
    available_on: int


class BalanceTransaction(Movement):
    """A movement with what the API renders of it (contract §2.8), stored in the state of its object.

    `source` is the id of the charge, refund or dispute to which it belongs.
    """

    type: str
    reporting_category: str
    description: str | None
    fee_description: str
    source: str


def get_decimal_places(currency: str) -> int:
    """The number of digits after the decimal point: 2 for usd, 0 for jpy."""
    if currency in _ZERO_DECIMAL:
        return 0
    return 3 if currency in _THREE_DECIMAL else 2


def format_amount(amount: int, currency: str) -> str:
    """An amount as error messages show it: `$40.00`, `¥4,000`, `40.00 sek`."""
    places = get_decimal_places(currency)
    whole, part = divmod(abs(amount), 10**places)
    digits = f"{whole:,}" + (f".{part:0{places}d}" if places else "")
    symbol = _SYMBOLS.get(currency)
    text = f"{symbol}{digits}" if symbol else f"{digits} {currency}"
    return f"-{text}" if amount < 0 else text


def check_currency(currency: str, param: str = "currency") -> None:
    """Raises InvalidParameter for a currency that is not one of `CURRENCIES`."""
    if currency not in CURRENCIES:
        currency_list = ", ".join(sorted(CURRENCIES))
        raise InvalidParameter(
            f"Invalid currency: {currency}. Stripe currently supports these currencies: {currency_list}",
            param=param,
        )


def get_amount_step(currency: str) -> int:
    """The number of minor units that every amount is a multiple of: 100 for isk, 10 for kwd, 1 for usd."""
    return _AMOUNT_STEPS.get(currency, 1)


def check_divisible(amount: int, currency: str, *, param: str = "amount") -> None:
    """Raises InvalidParameter unless `amount` (minor units) is a multiple of the currency's step (contract
    §1.11). For each amount that a caller names; computed amounts are multiples already."""
    step = get_amount_step(currency)
    if amount % step:
        text = f"Invalid {param}: amounts in {currency} must be divisible by {step}; {amount} is not."
        raise InvalidParameter(text, param=param)


def split_amount(amount: int, part_count: int, currency: str) -> list[int]:
    """`amount` (minor units) in at most `part_count` parts of at least one step each: equal ones, the rest
    in the last."""
    step = get_amount_step(currency)
    part_count = min(part_count, amount // step) or 1
    part = amount // step // part_count * step
    return [part] * (part_count - 1) + [amount - part * (part_count - 1)]


def check_charge_amount(amount: int, currency: str) -> None:
    """Raises InvalidParameter, code `amount_too_small` or `amount_too_large`, unless `amount` (minor units)
    can be charged (contract §2.6); without a code, if the currency has no such amount."""
    minimum = max(_CHARGE_MINIMUMS.get(currency, 1), get_amount_step(currency))
    if amount < minimum:
        text = f"Amount must be at least {format_amount(minimum, currency)}"
        raise InvalidParameter(text, code="amount_too_small", param="amount")
    if amount > CHARGE_AMOUNT_MAX:
        text = f"Amount must be no more than {format_amount(CHARGE_AMOUNT_MAX, currency)}"
        raise InvalidParameter(text, code="amount_too_large", param="amount")
    check_divisible(amount, currency)


def compute_processing_fee(amount: int, currency: str) -> int:
    """The fee for a charge, in minor units: 2.9 %, rounded half up, plus the currency's fixed part, in steps
    of the currency. 88 for 2000 usd."""
    step = get_amount_step(currency)
    fixed = _FIXED_FEES.get(currency)
    if fixed is None:
        fixed = max(3 * 10 ** get_decimal_places(currency) // 10 or 30, step)
    return (amount * _FEE_PER_MILLE + 500 * step) // (1000 * step) * step + fixed


def compute_available_on(now: int, bypass_pending: bool) -> int:
    """Unix second from which the funds of a charge made at `now` can be used (contract §2.8): the second
    midnight UTC after it; at once if the card bypasses pending."""
    return now if bypass_pending else (now // DAY_SECONDS + 2) * DAY_SECONDS
