"""The operations on accounts and the balance (contract §2.11, §2.14)."""

from __future__ import annotations

from functools import partial

from ledger.api.public.operations import Operation
from ledger.queries import accounts, balance
from ledger.wire import tables

_account = partial(Operation, method="GET", resource="account", expandable="account", targets_account=True)

ACCOUNTS = (
    _account(
        path="/v1/account",
        summary="Retrieve the account of the API key",
        table=tables.accounts.RETRIEVE,
        read=accounts.retrieve_current,
        targets_account=False,
    ),
    _account(
        path="/v1/accounts",
        summary="List connected accounts, newest first",
        table=tables.accounts.LIST,
        read=accounts.list_connected,
        targets_account=False,
    ),
    _account(
        path="/v1/accounts/{account}",
        summary="Retrieve the own account, or a connected one",
        table=tables.accounts.RETRIEVE,
        read=accounts.retrieve,
    ),
    _account(
        path="/v1/accounts/{account}/capabilities",
        summary="List an account's capabilities",
        table=tables.accounts.LIST_CAPABILITIES,
        read=accounts.list_capabilities,
    ),
    _account(
        path="/v1/accounts/{account}/capabilities/{capability}",
        summary="Retrieve a capability of an account",
        table=tables.accounts.RETRIEVE,
        read=accounts.retrieve_capability,
    ),
    _account(
        path="/v1/accounts/{account}/external_accounts",
        summary="List an account's bank accounts and cards (always empty)",
        table=tables.accounts.LIST_EXTERNAL_ACCOUNTS,
        read=accounts.list_external_accounts,
    ),
    _account(
        path="/v1/accounts/{account}/persons",
        summary="List an account's persons (always empty)",
        table=tables.accounts.LIST_PERSONS,
        read=accounts.list_persons,
    ),
)
BALANCE = (
    Operation(
        method="GET",
        path="/v1/balance",
        summary="Retrieve the balance",
        table=tables.balance.RETRIEVE,
        read=balance.retrieve,
        resource="balance",
        expandable="balance",
    ),
)
