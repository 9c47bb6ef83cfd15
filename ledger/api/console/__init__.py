"""The console: a page for people. It reads the HTTP APIs only, so it can do nothing that they cannot."""
