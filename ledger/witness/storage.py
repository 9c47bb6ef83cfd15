"""The directory of a witness: its key, the last checkpoint of each log that it cosigned, and evidence.

A checkpoint is on disk before anybody sees the cosignature on it. So neither a crash nor a power failure
makes the witness cosign two trees of which one does not continue the other. One process at a time uses a
directory. A directory that is restored from a backup has forgotten checkpoints: it needs a new key.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
from hashlib import sha256
from pathlib import Path

from ledger.errors import SettingError
from ledger.postgres.private_files import fsync_directory, write_private_file
from ledger.tlog.keys import SEED_BYTES, SignerKey, VerifierKey
from ledger.tlog.merkle import ProofError
from ledger.tlog.notes import Note, parse_note, verify_note
from ledger.tlog.signed_messages import SignatureType

EVIDENCE_MAX = 100
"""Cases kept of each log and kind: whoever has a log's key could fill the disk otherwise."""

_KEY_FILE = "key"
_LOGS = "logs"
_EVIDENCE = "evidence"


class EvidenceKind(StrEnum):
    """What a log did, by two checkpoints that it signed.

    FORK          two trees of one size: proof enough
    ROLLBACK      a smaller tree than the last one. An old checkpoint that somebody submits again looks the
                  same: it is a fault unless the log can prove that the larger tree continues the smaller
    INCONSISTENT  a larger tree, without a valid proof that it continues the last one
    """

    FORK = "fork"
    ROLLBACK = "rollback"
    INCONSISTENT = "inconsistent"


class WitnessStorage:
    """The files of one witness, in `directory`; `close` unlocks it.

    signers  the witness's own keys; the first is Ed25519
    """

    def __init__(self, directory: Path, *, name: str | None = None, with_ml_dsa: bool = False) -> None:
        """Lock the directory; make it and the key at the first start.

        name         of the key, if it is made now; default: a random one. Another one than it has is an error
        with_ml_dsa  have an ML-DSA-44 key, too

        Raises SettingError.
        """
        self._directory = directory
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _lock(directory)
            try:
                self.signers = self._open_key(name, with_ml_dsa=with_ml_dsa)
            except BaseException:
                self.close()
                raise
        except OSError as error:
            raise SettingError(f"cannot use the witness's directory {directory}: {error.strerror}") from None

    def close(self) -> None:
        """Let another process use the directory."""
        os.close(self._lock)

    @property
    def verifiers(self) -> list[VerifierKey]:
        """The public keys, which logs configure."""
        return [signer.verifier for signer in self.signers]

    def read_checkpoint(self, origin: str) -> Note | None:
        """The last checkpoint of a log that this witness cosigned. Raises SettingError for a file that it did
        not write so."""
        file = self._directory / _LOGS / hash_origin(origin)
        try:
            note = parse_note(file.read_bytes())
            verify_note(note, self.verifiers)
        except FileNotFoundError:
            return None
        except ProofError as error:
            raise SettingError(f"{file} is damaged, or of another witness: {error}") from None
        return note

    def write_checkpoint(self, origin: str, note: Note) -> None:
        """Keep a checkpoint, cosigned, as the last one of its log. It survives a power failure."""
        write_private_file(self._directory / _LOGS / hash_origin(origin), note.to_text())

    def keep_evidence(self, origin: str, kind: EvidenceKind, seen: Note, offered: Note) -> bool:
        """Keep the last checkpoint and one that does not continue it, in a folder of their own. False if that
        one is kept already, or EVIDENCE_MAX others are."""
        name = sha256(offered.text.encode()).hexdigest()[:16]
        parent = self._directory / _EVIDENCE / hash_origin(origin) / kind
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        cases = {path.name for path in parent.iterdir()}
        if name in cases or len(cases) >= EVIDENCE_MAX:
            return False
        new_folder = parent / f".{name}"
        new_folder.mkdir(mode=0o700, exist_ok=True)
        write_private_file(new_folder / "seen", seen.to_text())
        write_private_file(new_folder / "offered", offered.to_text())
        new_folder.rename(parent / name)
        fsync_directory(parent)
        return True

    def count_evidence(self, origin: str) -> dict[EvidenceKind, int]:
        """How many cases are kept of a log, by kind."""
        parent = self._directory / _EVIDENCE / hash_origin(origin)
        return {kind: len([*(parent / kind).glob("[!.]*")]) for kind in EvidenceKind}

    def _open_key(self, name: str | None, *, with_ml_dsa: bool) -> list[SignerKey]:
        file, logs = self._directory / _KEY_FILE, self._directory / _LOGS
        try:
            signers = _parse_key_file(file)
        except FileNotFoundError:
            logs.mkdir(mode=0o700, exist_ok=True)
            if any(logs.iterdir()):
                raise SettingError(f"{file} is missing, and {logs} is of the witness with that key") from None
            signers = [_make_signer(name or f"ledger-witness/{secrets.token_hex(8)}")]
            _write_key_file(file, signers)
        if not logs.is_dir():
            raise SettingError(
                f"{logs} is missing: the witness has forgotten what it cosigned, and needs a new key "
                "in a new directory"
            )
        if name not in (None, signers[0].name):
            raise SettingError(f"--name: the key in {file} is named {signers[0].name}")
        if with_ml_dsa and len(signers) == 1:
            signers.append(_make_signer(signers[0].name, SignatureType.COSIGNATURE_ML_DSA_44))
            _write_key_file(file, signers)
        return signers


def hash_origin(origin: str) -> str:
    """The name of a log in paths, by C2SP tlog-witness: the SHA-256 hash of its origin in hexadecimal."""
    return sha256(origin.encode()).hexdigest()


def _lock(directory: Path) -> int:
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return descriptor
    os.close(descriptor)
    raise SettingError(f"another witness uses the directory {directory}")


def _make_signer(name: str, kind: SignatureType = SignatureType.COSIGNATURE_ED25519) -> SignerKey:
    try:
        signer = SignerKey.make(name, secrets.token_bytes(SEED_BYTES), kind)
        signer.verifier  # noqa: B018  # fails where the algorithm is missing
    except ProofError as error:
        raise SettingError(f"the witness's key cannot be made: {error}") from None
    return signer


def _parse_key_file(file: Path) -> list[SignerKey]:
    try:
        return [SignerKey.parse(line) for line in file.read_text().splitlines()]
    except (ProofError, UnicodeDecodeError) as error:
        raise SettingError(f"{file} has no key of a witness: {error}") from None


def _write_key_file(file: Path, signers: Sequence[SignerKey]) -> None:
    write_private_file(file, "".join(f"{signer.to_text()}\n" for signer in signers))
