"""The database: tables, engine, migrations, fast statements, and alarms."""
