"""Alembic's environment and revisions. May import `app.config`, `app.db`, `app.errors`, `app.db.sql` and `app.db.tables`."""
