"""One event at a time through a projection: the rows before it and after it. Nothing is written."""
