"""What the service says of itself: what is not done yet, and Prometheus metrics."""
