"""The console: what the pages of its lists cost with a million rows each, and the bytes of its first view."""
