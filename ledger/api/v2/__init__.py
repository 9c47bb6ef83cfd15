"""The public API under /v2: thin events, and where Events are sent."""
