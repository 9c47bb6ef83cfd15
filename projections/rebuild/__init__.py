"""What builds a projection anew beside the live one, compares the two, and makes the new one live."""
