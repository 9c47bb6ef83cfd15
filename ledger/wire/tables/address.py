"""Postal addresses and shipping details, which several operations accept."""

from __future__ import annotations

from ledger.wire.parameters import Hash
from ledger.wire.scalars import Parameter, Text

ADDRESS: dict[str, Parameter] = {
    "city": Text(unsettable=True, description="City, district, suburb, town or village."),
    "country": Text(unsettable=True, description="Country, preferably its two-letter ISO 3166-1 code."),
    "line1": Text(unsettable=True, description="First line: street, PO box or company."),
    "line2": Text(unsettable=True, description="Second line: apartment, suite, unit or building."),
    "postal_code": Text(unsettable=True, description="ZIP or postal code."),
    "state": Text(unsettable=True, description="State, county, province or region."),
}

SHIPPING: dict[str, Parameter] = {
    "address": Hash(ADDRESS, required=True, description="Delivery address."),
    "name": Text(required=True, description="The recipient's name."),
    "phone": Text(unsettable=True, description="The recipient's phone number, with extension."),
}
