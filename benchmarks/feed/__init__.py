"""The feed by position: latency to many readers, what they cost writers, and drains of a long log."""
