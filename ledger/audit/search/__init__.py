"""The log searched: by who, by which request, on which object, of which kind, when."""
