"""Export and erase customers with effaced-stripe, as an answer to a request under the GDPR.

    export_and_erase.py CUSTOMER…: one line of JSON for each step of each customer.
Settings: STRIPE_KEY and STRIPE_BASE. The resolver makes its own `StripeClient`, which `stripe.api_base` does
not reach; its one way to another address is the HTTP client that it takes.
"""

import asyncio
import json
import os
import sys

import stripe
from effaced import SubjectRef
from effaced_stripe import StripeResolver


class Redirected(stripe.RequestsClient):
    """Asks STRIPE_BASE for what is meant for Stripe."""

    def request(self, method, url, headers, post_data=None, **options):
        there = url.replace(stripe.DEFAULT_API_BASE, os.environ["STRIPE_BASE"], 1)
        return super().request(method, there, headers, post_data, **options)


async def main(customers):
    resolver = StripeResolver(os.environ["STRIPE_KEY"], http_client=Redirected())
    for customer in customers:
        ref = SubjectRef(kind="stripe", value=customer)
        for _ in range(2):
            export = await resolver.export_subject(ref)
            erasure = await resolver.erase_subject(ref)
            records = {record.field: record.value for record in export.records}
            print(json.dumps({"exported": records, "already_absent": erasure.already_absent}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
