"""The bytes of files beside the log, and the addresses they are served at."""
