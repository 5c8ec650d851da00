"""Where jobs, items, results and files are kept: SQLite, or PostgreSQL by URL."""
