"""Print what dj-stripe's tables hold: the object of each row by model and id; and each delivery that came."""

import json

import django

django.setup()

from django.apps import apps  # noqa: E402
from djstripe.models import WebhookEventTrigger  # noqa: E402
from djstripe.models.base import StripeModel  # noqa: E402

rows = {
    model.__name__: {row.id: row.stripe_data for row in model.objects.all()}
    for model in apps.get_app_config("djstripe").get_models()
    if issubclass(model, StripeModel) and model.objects.exists()
}
deliveries = [
    {"event": one.event_id, "valid": one.valid, "processed": one.processed, "exception": one.exception}
    for one in WebhookEventTrigger.objects.order_by("id")
]
print(json.dumps({"rows": rows, "deliveries": deliveries}))
