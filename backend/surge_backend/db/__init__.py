"""The database: tables, engine, migrations, and the queries of the read side."""
