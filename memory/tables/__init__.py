"""SQL, one file per group of tables; memory/postgres.py puts them together."""
