"""The routes with which operators look after webhooks (internal API §4)."""
