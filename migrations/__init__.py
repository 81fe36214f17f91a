"""Alembic's environment and revisions. May import `app.config`, `app.db`, `app.errors`, `app.sql` and `app.tables`."""
