"""Policies (C2SP tlog-policy): which logs a verifier trusts, and which witnesses must have cosigned.

A policy is a file of octets: names are compared as such, and are kept here as texts in which each octet that
is not UTF-8 is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from ledger.tlog.checkpoints import Checkpoint, parse_checkpoint
from ledger.tlog.cosignatures import verify_cosignatures
from ledger.tlog.keys import VerifierKey
from ledger.tlog.merkle import ProofError
from ledger.tlog.notes import parse_note, verify_note

POLICY_BYTES_MAX = 1_000_000
NO_WITNESSES = "none"

_FORBIDDEN = re.compile(rb"[^\t\n\x20-\x7e\x80-\xff]")
_THRESHOLD = re.compile("[1-9][0-9]{0,8}")


class Party(NamedTuple):
    """A log or a witness. `name`: a witness's name in the policy; that of the key for a log."""

    name: str
    key: VerifierKey
    url: str | None


class Group(NamedTuple):
    """A group of witnesses and groups, of which `threshold` must have cosigned."""

    name: str
    threshold: int
    members: tuple[str, ...]


class Trusted(NamedTuple):
    """A checkpoint that a policy accepts.

    log        the key of the log that signed it
    witnesses  name and time, in unix seconds, of each witness of the policy that cosigned it
    """

    checkpoint: Checkpoint
    log: VerifierKey
    witnesses: dict[str, int]


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy.

    groups  each after the groups that it has as members
    quorum  the name of a witness or a group, or `none`
    """

    logs: tuple[Party, ...]
    witnesses: dict[str, Party]
    groups: dict[str, Group]
    quorum: str

    def check(self, checkpoint_note: str | bytes) -> Trusted:
        """What a checkpoint says, if the policy accepts it. Raises ProofError for one that no log of the
        policy signed, that lacks the quorum of witnesses, or that has a wrong signature of a known key."""
        note = parse_note(checkpoint_note)
        checkpoint = parse_checkpoint(note.text)
        keys = [log.key for log in self.logs if log.name == checkpoint.origin]
        if not keys:
            raise ProofError(f"the policy has no log named {checkpoint.origin!a}")
        log = verify_note(note, keys)[0]
        times = verify_cosignatures(note, [witness.key for witness in self.witnesses.values()])
        cosigned = {name: times[party.key] for name, party in self.witnesses.items() if party.key in times}
        if not self.has_quorum(set(cosigned)):
            seen = ", ".join(ascii(name) for name in cosigned) or "no witness of the policy"
            raise ProofError(f"the quorum {self.quorum!a} is missing: cosigned by {seen}")
        return Trusted(checkpoint, log, cosigned)

    def has_quorum(self, witnesses: set[str]) -> bool:
        """Whether these witnesses together are enough."""
        reached = set(witnesses)
        for group in self.groups.values():
            if sum(member in reached for member in group.members) >= group.threshold:
                reached.add(group.name)
        return self.quorum == NO_WITNESSES or self.quorum in reached


@dataclass(slots=True)
class _Draft:
    """The lines of a policy that were read so far."""

    logs: list[Party] = field(default_factory=list)
    witnesses: dict[str, Party] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    members: set[str] = field(default_factory=set)
    quorum: str | None = None

    def add_log(self, text: str, url: str | None = None) -> None:
        key = VerifierKey.parse(text)
        _refuse_duplicate("log", key, self.logs)
        self.logs.append(Party(key.name, key, url))

    def add_witness(self, name: str, text: str, url: str | None = None) -> None:
        self._check_new(name)
        key = VerifierKey.parse(text)
        if not key.kind.is_timestamped:
            raise ProofError(f"the key of the witness {name!a} is not of a type for cosignatures")
        _refuse_duplicate("witness", key, self.witnesses.values())
        self.witnesses[name] = Party(name, key, url)

    def add_group(self, name: str, threshold: str, *members: str) -> None:
        self._check_new(name)
        for member in members:
            self._check_known(member)
            if member in self.members:
                raise ProofError(f"{member!a} is already the member of a group")
            self.members.add(member)
        counts = {"all": len(members), "any": 1}
        if threshold not in counts and not _THRESHOLD.fullmatch(threshold):
            raise ProofError(f"a group needs 'all', 'any' or a number of its members, not {threshold!a}")
        count = counts[threshold] if threshold in counts else int(threshold)
        if not 1 <= count <= len(members):
            raise ProofError(f"a group of {len(members)} members cannot need {count} of them")
        self.groups[name] = Group(name, count, members)

    def set_quorum(self, name: str) -> None:
        if self.quorum is not None:
            raise ProofError("the policy has more than one quorum")
        if name != NO_WITNESSES:
            self._check_known(name)
        self.quorum = name

    def _check_new(self, name: str) -> None:
        if name == NO_WITNESSES or name in self.witnesses or name in self.groups:
            raise ProofError(f"the name {name!a} is already taken")

    def _check_known(self, name: str) -> None:
        if name not in self.witnesses and name not in self.groups:
            raise ProofError(f"no witness or group {name!a} is defined above")


def parse_policy(content: str | bytes) -> Policy:
    """Read a policy. Raises ProofError, which names the line."""
    octets = content.encode(errors="surrogateescape") if isinstance(content, str) else content
    if len(octets) > POLICY_BYTES_MAX:
        raise ProofError(f"the policy is longer than {POLICY_BYTES_MAX} bytes")
    *lines, rest = octets.split(b"\n")
    draft = _Draft()
    for number, line in enumerate([*lines, rest], start=1):
        try:
            if number > len(lines) and rest:
                raise ProofError("the line does not end with a newline")
            _read_line(draft, line)
        except ProofError as error:
            raise ProofError(f"policy, line {number}: {error}") from None
    if draft.quorum is None:
        raise ProofError("the policy has no quorum line")
    return Policy(tuple(draft.logs), draft.witnesses, draft.groups, draft.quorum)


def _read_line(draft: _Draft, line: bytes) -> None:
    if _FORBIDDEN.search(line):
        raise ProofError("the line has a control character")
    items = [item.decode(errors="surrogateescape") for item in re.split(rb"[ \t]+", line.strip(b" \t"))]
    keyword, *values = items
    if not keyword or keyword.startswith("#"):
        return
    readers: dict[str, tuple[Callable[..., None], int, int]] = {
        "log": (draft.add_log, 1, 2),
        "witness": (draft.add_witness, 2, 3),
        "group": (draft.add_group, 3, POLICY_BYTES_MAX),
        "quorum": (draft.set_quorum, 1, 1),
    }
    if keyword not in readers:
        raise ProofError(f"a line begins with log, witness, group or quorum, not with {keyword!a}")
    read, count_min, count_max = readers[keyword]
    if not count_min <= len(values) <= count_max:
        raise ProofError(f"the line {keyword!a} has {len(values)} items after it")
    read(*values)


def _refuse_duplicate(noun: str, key: VerifierKey, parties: Iterable[Party]) -> None:
    if any(party.key.public_key == key.public_key for party in parties):
        raise ProofError(f"another {noun} has the same public key")
