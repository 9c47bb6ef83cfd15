"""When deliveries go out besides the schedule of their attempts: in order, and to endpoints that fail."""
