"""Beyond nearest neighbours: safe plain SQL, radius, pages, examples, duplicates, diversity, text, groups, psql."""

from collections.abc import Sequence

from alembic import op

from migrations.sources import build_index, concurrently, drop, load, use_schema_path

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

SOURCES = (
    "views/settings_check.sql",
    "functions/tune_database.sql",
    "functions/check_range.sql",
    "functions/query_unit.sql",
    "functions/nearest_exactly.sql",
    "functions/within.sql",
    "functions/search_page.sql",
    "functions/example_query.sql",
    "functions/search_examples.sql",
    "functions/search_distinct.sql",
    "functions/search_diverse.sql",
    "functions/search_grouped.sql",
    "functions/near_pairs.sql",
    "functions/near_duplicates.sql",
    "functions/image_document.sql",
    "functions/text_query.sql",
    "functions/search_text.sql",
    "functions/search_fused.sql",
    "functions/embed_image.sql",
)

# Of those that this revision stored for the database, the ones that nobody has changed since.
RESET_SETTINGS = """
DO $$
DECLARE
    ours record;
BEGIN
    FOR ours IN
        SELECT c.setting FROM lookalike.settings_check c
        JOIN pg_database d ON d.datname = current_database()
        JOIN pg_db_role_setting s ON s.setdatabase = d.oid AND s.setrole = 0
        WHERE c.setting || '=' || c.wanted = ANY (s.setconfig)
    LOOP
        EXECUTE format('ALTER DATABASE %I RESET %s', current_database(), ours.setting);
    END LOOP;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'role % may not reset the settings of database %', current_user, current_database();
END
$$
"""


def upgrade() -> None:
    use_schema_path()
    load(revision, *SOURCES)
    op.execute("SELECT lookalike.tune_database()")
    # A plain CREATE INDEX would stop every writer for as long as it reads the images. Concurrently it runs outside a
    # transaction.
    with concurrently():
        build_index("images_document", "ON lookalike.images USING gin (lookalike.image_document(caption, attributes))")


def downgrade() -> None:
    use_schema_path()
    op.execute(RESET_SETTINGS)
    op.execute("DROP INDEX lookalike.images_document")
    drop(*reversed(SOURCES))
