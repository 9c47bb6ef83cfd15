"""What the answer to a request for a URL that does not exist says."""
