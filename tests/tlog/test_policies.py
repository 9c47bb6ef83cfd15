"""Policies: what they accept, and how each malformed line is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.tlog.cosignatures import cosign
from ledger.tlog.keys import SignerKey
from ledger.tlog.merkle import ProofError
from ledger.tlog.notes import parse_note
from ledger.tlog.policies import Policy, parse_policy
from ledger.tlog.signed_messages import SignatureType
from tests.tlog.logs import SIGNER, MadeUpLog

LOG = MadeUpLog(5)
AT = 1_796_000_000
KINDS = [SignatureType.COSIGNATURE_ED25519, SignatureType.COSIGNATURE_ML_DSA_44]
WITNESSES = [SignerKey.make(f"witness.example/{i}", bytes([i]) * 32, KINDS[i % 2]) for i in range(6)]
KEYS = [str(witness.verifier) for witness in WITNESSES]
EXAMPLE = f"""# Two organizations
log {SIGNER.verifier} https://log.example/1

witness X1 {KEYS[0]}
 \twitness X2 \t{KEYS[1]} https://x2.example/
witness X3 {KEYS[2]}
group X-witnesses 2 X1 X2 X3

witness Y1 {KEYS[3]}
witness Y2 {KEYS[4]}
witness Y3 {KEYS[5]}
group Y-witnesses any Y1 Y2 Y3

group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
"""


def make_note(cosigned: set[int]) -> str:
    note = parse_note(LOG.checkpoint_note())
    return note.merge([cosign(note.text, WITNESSES[number], AT) for number in sorted(cosigned)]).to_text()


@given(st.sets(st.integers(0, 5)))
def test_a_quorum_is_two_of_one_organization_and_one_of_the_other(cosigned: set[int]) -> None:
    policy = parse_policy(EXAMPLE)
    note = make_note(cosigned)
    if len(cosigned & {0, 1, 2}) >= 2 and cosigned & {3, 4, 5}:
        trusted = policy.check(note)
        assert trusted.checkpoint.size == LOG.size
        assert trusted.log == SIGNER.verifier
        assert trusted.witnesses == {f"{'XY'[number // 3]}{number % 3 + 1}": AT for number in cosigned}
    else:
        with pytest.raises(ProofError, match="the quorum 'X-and-Y' is missing"):
            policy.check(note)


def test_urls_are_kept() -> None:
    policy = parse_policy(EXAMPLE.encode())
    assert policy.logs[0].url == "https://log.example/1"
    assert [party.url for party in policy.witnesses.values()] == [None, "https://x2.example/", *[None] * 4]


def test_without_witnesses_the_log_alone_is_trusted() -> None:
    policy = parse_policy(f"log {SIGNER.verifier}\nquorum none\n")
    assert policy.check(make_note({1})).witnesses == {}


def test_a_wrong_cosignature_of_a_known_witness_is_refused() -> None:
    note = make_note({0, 1, 3})
    lines = note.splitlines(keepends=True)
    changed = lines[-3][:-8] + ("AAAA" if lines[-3][-8:-4] != "AAAA" else "BBBB") + lines[-3][-4:]
    with pytest.raises(ProofError, match=r"'witness\.example/0' is wrong"):
        parse_policy(EXAMPLE).check("".join([*lines[:-3], changed, *lines[-2:]]))


def test_a_log_that_the_policy_does_not_have_is_refused() -> None:
    policy = parse_policy(f"log {SIGNER.verifier}\nquorum none\n")
    other = SignerKey.make("log.example/2", bytes(32))
    with pytest.raises(ProofError, match=r"no log named 'log\.example/2'"):
        policy.check(LOG.checkpoint_note(signer=other))
    with pytest.raises(ProofError, match="not signed by a known key"):
        policy.check(LOG.checkpoint_note(signer=SignerKey.make(SIGNER.name, b"7" * 32)))


def test_names_are_octets() -> None:
    """The Kelvin sign is not a K, and a name need not be UTF-8."""
    content = f"log {SIGNER.verifier}\n".encode()
    for name in ("\u212a".encode(), b"\xff\xfe"):
        policy = parse_policy(content + b"witness %s %s\nquorum %s\n" % (name, KEYS[0].encode(), name))
        assert policy.check(make_note({0})).witnesses
        with pytest.raises(ProofError, match="quorum"):
            policy.check(make_note(set()))
    with pytest.raises(ProofError, match="no witness or group 'K'"):
        parse_policy(content + f"witness \u212a {KEYS[0]}\nquorum K\n".encode())


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "no quorum line"),
        ("quorum none", "line 1: the line does not end"),
        ("quorum none\nquorum none\n", "line 2: the policy has more than one quorum"),
        ("quorum w\n", "line 1: no witness or group 'w'"),
        ("quorum\n", "line 1: the line 'quorum' has 0 items"),
        ("quorum none none\n", "line 1: the line 'quorum' has 2 items"),
        ("Quorum none\n", "line 1: a line begins with"),
        ("quorum none\r\n", "line 1: the line has a control character"),
        ("log\n", "line 1: the line 'log' has 0 items"),
        ("log {log} url more\n", "line 1: the line 'log' has 3 items"),
        ("log {log}\n\n#\nlog {log}\n", "line 4: another log has the same public key"),
        ("log nonsense\n", "line 1: a key is written as"),
        ("witness w {log}\n", "line 1: the key of the witness 'w' is not of a type for cosignatures"),
        ("witness none {w1}\n", "line 1: the name 'none' is already taken"),
        ("witness w {w1}\nwitness w {w2}\n", "line 2: the name 'w' is already taken"),
        ("witness w {w1}\nwitness v {w1}\n", "line 2: another witness has the same public key"),
        ("witness w {w1}\ngroup w all w\n", "line 2: the name 'w' is already taken"),
        ("witness w {w1}\ngroup g all g\n", "line 2: no witness or group 'g'"),
        ("witness w {w1}\ngroup g all none\n", "line 2: no witness or group 'none'"),
        ("witness w {w1}\ngroup g all w w\n", "line 2: 'w' is already the member of a group"),
        ("witness w {w1}\ngroup g all w\ngroup h any w\n", "line 3: 'w' is already the member"),
        ("witness w {w1}\ngroup g 2 w\n", "line 2: a group of 1 members cannot need 2"),
        ("witness w {w1}\ngroup g 0 w\n", "line 2: a group needs 'all', 'any' or a number"),
        ("witness w {w1}\ngroup g some w\n", "line 2: a group needs 'all', 'any' or a number"),
        ("witness w {w1}\ngroup g all\n", "line 2: the line 'group' has 2 items"),
        ("group g all w\nwitness w {w1}\n", "line 1: no witness or group 'w'"),
    ],
)
def test_a_malformed_policy_is_refused_with_its_line(lines: str, message: str) -> None:
    text = lines.format(log=SIGNER.verifier, w1=KEYS[0], w2=KEYS[1])
    with pytest.raises(ProofError) as error:
        parse_policy(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_many_nested_groups_are_no_burden() -> None:
    lines = [f"log {SIGNER.verifier}", f"witness g0 {KEYS[0]}"]
    lines += [f"group g{number} all g{number - 1}" for number in range(1, 3001)]
    policy: Policy = parse_policy("\n".join([*lines, "quorum g3000", ""]))
    assert policy.check(make_note({0})).witnesses == {"g0": AT}
