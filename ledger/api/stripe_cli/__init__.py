"""The routes and the socket of the official Stripe CLI."""
