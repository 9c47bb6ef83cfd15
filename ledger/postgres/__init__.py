"""PostgreSQL: connections, migrations, and an embedded server where no database is configured."""
