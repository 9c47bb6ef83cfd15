"""The sessions in which people use the console."""
