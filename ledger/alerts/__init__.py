"""What is wrong with the service, found by itself, shown to operators and sent to their receivers."""
