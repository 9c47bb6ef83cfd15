"""A program that is told of Events and fetches what it needs to know: it prints disputes and refunds.

Its settings: STRIPE_API_KEY, STRIPE_WEBHOOK_SECRET and API_URL, the address of the service. The one
argument is the port at which it waits. It needs the package `stripe`.
"""

import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import stripe

url = os.environ.get("API_URL", "http://127.0.0.1:4242")
client = stripe.StripeClient(
    os.environ["STRIPE_API_KEY"],
    base_addresses={"api": url, "connect": url, "files": url, "meter_events": url},
)


def pass_over(notification: stripe.v2.core.EventNotification, *_: object) -> None:
    print(f"{notification.type}: nothing to do")


notifications = client.notification_handler(os.environ["STRIPE_WEBHOOK_SECRET"], pass_over)


@notifications.on_v1_charge_dispute_created
def show_dispute(notification: stripe.events.V1ChargeDisputeCreatedEventNotification, *_: object) -> None:
    dispute = notification.fetch_related_object()  # as it is now, which may be later than the Event
    print(f"{dispute.id}: {dispute.amount} {dispute.currency} disputed, {dispute.status}")


@notifications.on_v1_charge_refunded
def show_refund(notification: stripe.events.V1ChargeRefundedEventNotification, *_: object) -> None:
    charge, event = notification.fetch_related_object(), notification.fetch_event()
    request = event.reason.request.id if event.reason and event.reason.request else "nobody"
    print(f"{charge.id}: {charge.amount_refunded} {charge.currency} refunded, asked by {request}")


class Webhook(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            notifications.handle(body, self.headers["Stripe-Signature"])
            self.send_response(200)
        except stripe.SignatureVerificationError:
            self.send_response(400)
        self.end_headers()  # after any other error there is no answer, and the Event is sent again


with ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Webhook) as server:
    print(f"waiting for thin events at http://127.0.0.1:{server.server_port}/")
    server.serve_forever()
