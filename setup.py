"""The packages of the wheel. All else that a build needs is in pyproject.toml.

The migrations stay in `alembic/`, where a contributor and the `alembic` command look for them; in the wheel
they are `ledger/migrations`. pyproject.toml has no way to say that and to find the packages as well.
"""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["ledger", "ledger.*", "projections", "projections.*"]),
        "ledger.migrations",
        "ledger.migrations.versions",
    ],
    package_dir={"ledger.migrations": "alembic"},
    package_data={
        "ledger.migrations": ["script.py.mako"],
        "ledger.compression": ["*.zstd"],
        "ledger.api.console": ["static/**/*"],
        "ledger.api.pages": ["*.html", "*.js", "swagger_ui/*"],
        "ledger.api.unknown_routes": ["*.txt"],
    },
)
