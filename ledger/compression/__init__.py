"""JSON documents, compressed with a dictionary of such documents."""
