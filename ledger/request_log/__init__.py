"""What operators see of requests: counts of all, and the failed ones; none of their contents."""
