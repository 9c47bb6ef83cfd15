"""The setting LEDGER_WITNESSES: what it means, and what is refused with which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger.config import load_settings
from ledger.errors import SettingError
from ledger.tlog.keys import SignerKey
from ledger.tlog.signed_messages import SignatureType
from ledger.tree.witnesses.addresses import parse_witnesses
from projections.composition import make_extensions

KEYS = [
    SignerKey.make(f"witness.example/{number}", bytes([number] * 32), kind).verifier
    for number, kind in enumerate((SignatureType.COSIGNATURE_ED25519, SignatureType.COSIGNATURE_ML_DSA_44))
]
LOG_KEY = SignerKey.make("log.example", bytes(32)).verifier


def test_entries_are_separated_by_commas_spaces_or_lines(tmp_path: Path) -> None:
    first, second = f"{KEYS[0]}=https://one.example/witness/", f"{KEYS[1]}=http://127.0.0.1:4243"
    expected = [
        ("https://one.example/witness", (KEYS[0],)),
        ("http://127.0.0.1:4243", (KEYS[1],)),
    ]
    file = tmp_path / "witnesses"
    file.write_text(f"# ours\n{first}\n\n  {second}\n")
    for setting in (f"{first},{second}", f" {first} {second}\n", str(file)):
        assert parse_witnesses(setting) == expected
    assert [parse_witnesses(setting) for setting in (None, "", " ")] == [[], [], []]


def test_two_keys_at_one_url_are_one_witness() -> None:
    (witness,) = parse_witnesses(",".join(f"{key}=http://witness:4243" for key in KEYS))
    assert witness.keys == tuple(KEYS)
    assert witness.id == f"witness.example/0+{KEYS[0].key_id.hex()}"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("nonsense", "neither VERIFIER_KEY=URL nor a file that can be read"),
        (f"{KEYS[0]}", "neither VERIFIER_KEY=URL nor a file"),
        (f"{KEYS[0]}=ftp://one.example", "witness 1: not written as VERIFIER_KEY=URL"),
        (f"{KEYS[0]}=http://127.0.0.1,x", "witness 2: not written as VERIFIER_KEY=URL"),
        ("name+00000000+AAAA=https://one.example", "witness 1: the key's type is none of"),
        (f"{LOG_KEY}=https://one.example", "witness 1: the key 'log.example' signs logs"),
        (f"{KEYS[0]}=http://one.example", "witness 1: a public address needs https"),
        (f"{KEYS[0]}=http://8.8.8.8", "witness 1: a public address needs https"),
        (f"{KEYS[0]}=https://", "neither VERIFIER_KEY=URL|witness 1"),
        (f"{KEYS[0]}=https://user@one.example", "witness 1: the URL is not a scheme, a host"),
        (f"{KEYS[0]}=https://one.example?a=b", "witness 1: the URL is not a scheme, a host"),
        (f"{KEYS[0]}=https://one.example:0", "witness 1: the URL is not a scheme, a host"),
        (f"{KEYS[0]}=https://one.example,{KEYS[0]}=https://two.example", "two witnesses have one key"),
    ],
)
def test_what_cannot_be_used_is_refused_at_the_start(setting: str, message: str) -> None:
    with pytest.raises(SettingError, match=f"^LEDGER_WITNESSES: .*({message})") as refusal:
        make_extensions(load_settings(witnesses=setting))
    assert "\n" not in str(refusal.value)


def test_a_checkpoint_file_that_cannot_be_used_is_refused_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint"
    file.write_text("something else\n")
    for path, message in ((file, "is not a checkpoint"), (tmp_path / "no" / "file", "there is no directory")):
        with pytest.raises(SettingError, match=f"^LEDGER_CHECKPOINT_FILE: .*{message}"):
            make_extensions(load_settings(checkpoint_file=path))
