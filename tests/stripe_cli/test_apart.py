"""The Stripe CLI as these tests run it contacts this machine only: seen at its system calls, by strace."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from tests.stripe_cli.cli import RUN_SECONDS, StripeCli, needs_stripe_cli

pytestmark = [
    needs_stripe_cli,
    pytest.mark.skipif(
        shutil.which("strace") is None, reason="no strace here (Debian: apt-get install strace)"
    ),
]

LOOPBACK = re.compile(r"127\.\d+\.\d+\.\d+|::1|::ffff:127\.\d+\.\d+\.\d+")


def test_a_trigger_contacts_nothing_but_loopback(cli: StripeCli) -> None:
    """A trigger looks for a newer release, and sends telemetry unless it is told not to."""
    trace = cli.home / "trace"
    watch = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", str(trace)]
    completed = subprocess.run(
        [*watch, *cli.build_command(("trigger", "customer.created"))],
        env=cli.build_environment({}),
        cwd=cli.home,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    assert "Trigger succeeded!" in completed.stdout, completed
    contacted = set(re.findall(r'(?:inet_addr\(|AF_INET6, )"([^"]+)"', trace.read_text()))
    assert contacted
    assert all(LOOPBACK.fullmatch(address) for address in contacted), contacted
