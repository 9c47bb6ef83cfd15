"""PostgreSQL: connections, migrations, and a server of our own where none is named."""
