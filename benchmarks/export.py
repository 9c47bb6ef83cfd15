"""Generates NDJSON such as another service might export for `ledger import`. The same seed gives the same
lines.

Many customers' stories run at once, as in `benchmarks.history`, so neighbouring lines rarely name the same
object. Of 100 lines about 27 are customers, 60 charges, 8 disputes and 5 facts; a line has 320 bytes on
average.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

CONCURRENT_STORIES = 500
START_TIME = 1_780_000_000
"""Unix seconds of the first charge."""

_NAMES = ("Jenny Rosen", "Ada Lovelace", "Grace Hopper", "Zoë Müller", "山田 太郎")
_STREETS = ("510 Townsend St", "1 Infinite Loop", "Hauptstraße 5")
_BRANDS = ("visa", "mastercard", "amex")


def generate_lines(seed: int, count: int, *, prefix: str = "") -> Iterator[bytes]:
    """Exactly `count` lines, each with its newline. Ids begin with `prefix`: another one gives other
    objects."""
    rng = random.Random(seed)
    stories = [_generate_story(rng, f"{prefix}{number:08}") for number in range(CONCURRENT_STORIES)]
    story_count = CONCURRENT_STORIES
    remaining = count
    while remaining > 0:
        index = rng.randrange(CONCURRENT_STORIES)
        line = next(stories[index], None)
        if line is None:
            stories[index] = _generate_story(rng, f"{prefix}{story_count:08}")
            story_count += 1
        else:
            yield json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
            remaining -= 1


def _generate_story(rng: random.Random, name: str) -> Iterator[dict[str, Any]]:
    """A customer and one to four charges. Some charges are disputed; most of these disputes have an
    outcome."""
    person = rng.choice(_NAMES)
    email = f"{name}@example.com"
    address = {"line1": rng.choice(_STREETS), "city": "San Francisco", "postal_code": "94103",
               "country": "US"}  # fmt: skip
    yield {"op": "customer", "id": f"cus_{name}", "name": person, "email": email, "address": address,
           "metadata": {"imported": "yes", "order": name}}  # fmt: skip
    for number in range(rng.choice((1, 2, 2, 3, 4))):
        charge = f"ch_{name}{number}"
        yield {
            "op": "charge",
            "id": charge,
            "customer": f"cus_{name}",
            "amount": rng.randrange(500, 50_000),
            "currency": rng.choice(("usd", "eur")),
            "created": START_TIME + rng.randrange(10_000_000),
            "payment_intent": f"pi_{name}{number}",
            "payment_method_details": {
                "type": "card", "card": {"brand": rng.choice(_BRANDS), "last4": "4242"}
            },
            "billing_details": {"name": person, "email": email, "address": address},
            "metadata": {"order": f"{name}-{number}"},
        }  # fmt: skip
        if rng.random() < 0.13:
            dispute = f"du_{name}{number}"
            yield {"op": "dispute", "id": dispute, "charge": charge, "kind": "chargeback",
                   "reason": "fraudulent", "network_reason_code": "10.4",
                   "reference": f"net-{name}{number}"}  # fmt: skip
            if rng.random() < 0.6:
                yield {"op": "fact", "dispute": dispute, "fact": rng.choice(("won", "lost")),
                       "reference": f"end-{name}{number}"}  # fmt: skip
