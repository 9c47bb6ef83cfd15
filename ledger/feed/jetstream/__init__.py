"""Publishes the feed to NATS JetStream: message N of the stream is the event at position N."""
