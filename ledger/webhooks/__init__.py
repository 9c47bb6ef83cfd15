"""Deliveries of the public Event feed to webhook endpoints (CONTRACT 5.3-5.6)."""
