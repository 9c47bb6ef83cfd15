"""The `ledger` command: the service's own command line, with the projections that follow its log."""

from __future__ import annotations

from ledger import cli


def main() -> None:
    cli.run(cli.build(lambda settings: ()))


if __name__ == "__main__":
    main()
