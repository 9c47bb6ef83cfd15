"""A witness of transparency logs: it cosigns a log's checkpoint only if that continues the last one."""
