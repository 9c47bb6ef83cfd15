"""Which witnesses cosign our checkpoints: the setting LEDGER_WITNESSES, or the file that it names.

A witness is written as its verifier key, `=` and the start of its URL. One that signs with two keys is
written twice, with the same URL.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from ledger.errors import SettingError
from ledger.tlog.keys import VerifierKey
from ledger.tlog.merkle import ProofError

WITNESSES_MAX = 16

_ENTRY = re.compile(r"(?P<key>\S+?)=(?P<url>https?://\S+)")


class WitnessAddress(NamedTuple):
    """One witness.

    url   without a slash at its end
    keys  any of them may sign
    """

    url: str
    keys: tuple[VerifierKey, ...]

    @property
    def id(self) -> str:
        """Name and key id of its first key, which no two witnesses share."""
        return f"{self.keys[0].name}+{self.keys[0].key_id.hex()}"


def parse_witnesses(setting: str | None) -> list[WitnessAddress]:
    """The witnesses of the setting: entries separated by commas or spaces, or the path of a file with one a
    line, in which `#` begins a comment. Raises SettingError, which names the entry at fault by its number."""
    if not setting or not setting.strip():
        return []
    entries = [entry for entry in re.split(r"[,\s]+", setting) if entry]
    if not _ENTRY.match(entries[0]) and "://" not in setting:
        entries = _read_file(Path(setting.strip()))
    by_url: dict[str, list[VerifierKey]] = {}
    for number, entry in enumerate(entries, 1):
        try:
            key, url = _parse_entry(entry)
        except ProofError as error:
            raise SettingError(f"LEDGER_WITNESSES: witness {number}: {error}") from None
        by_url.setdefault(url, []).append(key)
    witnesses = [WitnessAddress(url, tuple(keys)) for url, keys in by_url.items()]
    if len({key for witness in witnesses for key in witness.keys}) < len(entries):
        raise SettingError("LEDGER_WITNESSES: two witnesses have one key")
    if not 0 < len(witnesses) <= WITNESSES_MAX:
        raise SettingError(f"LEDGER_WITNESSES: there may be 1 to {WITNESSES_MAX}, not {len(witnesses)}")
    return witnesses


def _read_file(file: Path) -> list[str]:
    try:
        lines = file.expanduser().read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingError(
            f"LEDGER_WITNESSES: neither VERIFIER_KEY=URL nor a file that can be read: {reason}"
        ) from None
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _parse_entry(entry: str) -> tuple[VerifierKey, str]:
    match = _ENTRY.fullmatch(entry)
    if match is None:
        raise ProofError("not written as VERIFIER_KEY=URL")
    key = VerifierKey.parse(match["key"])
    if not key.kind.is_timestamped:
        raise ProofError(f"the key '{key.name}' signs logs, it is not that of a witness")
    url = match["url"].rstrip("/")
    try:
        parts = urlsplit(url)
        is_usable = parts.port is None or parts.port > 0
    except ValueError:
        is_usable = False
    if not is_usable or not parts.hostname or parts.query or parts.fragment or parts.username is not None:
        raise ProofError("the URL is not a scheme, a host and perhaps a path")
    if parts.scheme == "http" and not _is_near(parts):
        raise ProofError("a public address needs https")
    return key, url


def _is_near(parts: SplitResult) -> bool:
    """Whether the host is this one, or in a private network: by its address, or a name without a dot."""
    host = parts.hostname or ""
    try:
        return not ipaddress.ip_address(host.partition("%")[0]).is_global
    except ValueError:
        return "." not in host
