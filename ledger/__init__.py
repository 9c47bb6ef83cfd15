"""An event-sourced ledger of customer sessions, disputes and events that speaks Stripe's wire protocol."""

__version__ = "0.1.0"
