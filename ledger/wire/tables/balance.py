"""The parameters of the operation on the balance (contract §2.14)."""

from __future__ import annotations

from ledger.wire.parameters import EXPAND, ParameterTable

RETRIEVE = ParameterTable({"expand": EXPAND})
