"""The feed by position: the log as items, for services inside that read on from a position of their own."""
