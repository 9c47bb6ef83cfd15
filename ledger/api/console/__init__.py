"""The console: a page for people under /console, which reads the public and the internal API."""
