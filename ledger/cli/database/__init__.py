"""Commands of an operator on the database as a whole: backup, restore, psql."""
