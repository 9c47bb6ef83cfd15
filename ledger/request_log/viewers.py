"""Whose requests a caller is shown: those of its account and of the accounts connected to it, in its mode."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

from ledger.postgres.connections import Conn, fetch_one

_SELECT_PLATFORM = "SELECT platform FROM ledger.accounts WHERE id = %(account)s"


class Viewer(NamedTuple):
    """owner             the account, or its platform
    livemode
    account              None: all accounts of the owner
    sees_unauthorized    whether requests without a valid key are shown: they belong to no account
    """

    owner: str
    livemode: bool
    account: str | None
    sees_unauthorized: bool

    @classmethod
    async def find(cls, conn: Conn, account: str, *, livemode: bool, as_platform: bool) -> Self:
        """The viewer that acts on `account`. `as_platform`: with the key of the platform that it is connected
        to; then it is shown this account alone."""
        row = await fetch_one(conn, _SELECT_PLATFORM, {"account": account})
        platform = None if row is None else row[0]
        is_whole = platform is None and not as_platform
        return cls(platform or account, livemode, None if is_whole else account, is_whole)

    def bind(self) -> dict[str, Any]:
        """The parameters of queries that join `unnest(owners, modes)`. Those without a key have no mode."""
        owners, modes = [self.owner], [self.livemode]
        if self.sees_unauthorized:
            owners, modes = [*owners, ""], [*modes, False]
        return {"owners": owners, "modes": modes, "account": self.account}
