"""What the official Stripe CLI is served with: listeners and their queues."""
