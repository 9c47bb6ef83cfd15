"""The public API: Stripe's wire protocol under /v1."""
