"""Create a webhook endpoint as dj-stripe's admin page does.

create_endpoint.py URL: the base of this project's addresses.
"""

import sys
import uuid

import django

django.setup()

from django.urls import reverse  # noqa: E402
from djstripe.models import WebhookEndpoint  # noqa: E402

named = uuid.uuid4()
address = sys.argv[1] + reverse("djstripe:djstripe_webhook_by_uuid", kwargs={"uuid": named})
created = WebhookEndpoint._api_create(
    url=address, enabled_events=["*"], metadata={"djstripe_uuid": str(named)}
)
WebhookEndpoint.sync_from_stripe_data(created)
