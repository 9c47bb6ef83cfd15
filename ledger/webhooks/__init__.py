"""Deliveries of the public Event feed to webhook endpoints (contract §5.3-§5.6)."""
