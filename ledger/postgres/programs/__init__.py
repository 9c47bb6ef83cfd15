"""PostgreSQL's client programs: where they are, and what we run by them: dumps, restores, psql."""
