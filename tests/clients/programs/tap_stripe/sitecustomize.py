"""Sends the tap's requests in the clear, so that the proxy that `http_proxy` names gets them: our service,
which takes a request line with a whole URL. The tap itself has no setting for another address, and fails on
every address that does not begin with http://api.stripe.com/v1/ or https://api.stripe.com/v1/."""

import stripe

stripe.api_base = "http://api.stripe.com"
