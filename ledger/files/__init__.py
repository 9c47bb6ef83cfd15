"""The contents of files, which are stored beside the log, and the secret digits of file links."""
