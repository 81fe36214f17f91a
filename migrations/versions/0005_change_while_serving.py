"""Changes without downtime: index life, spaces side by side, maintenance."""

from collections.abc import Sequence

from alembic import op

from migrations.sources import drop, load, refuse_loss, use_schema_path

revision: str = "0005"
down_revision: str = "0004"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None
# The oldest code that goes on working while this revision runs and after it; see docs/operations.md, Upgrades.
serves: str = "0005"

NEW: tuple[str, ...] = (
    "functions/active_space_id.sql",
    "functions/hold_space.sql",
    "functions/space_named.sql",
    "views/ann_indexes.sql",
    "functions/space_missing.sql",
    "functions/rollback_space.sql",
    "functions/drop_space.sql",
    "functions/backfill_space.sql",
    "functions/space_gaps_of.sql",
    "views/space_gaps.sql",
    "functions/nearest_in.sql",
    "functions/compare_spaces.sql",
    "functions/export_embeddings.sql",
    "functions/import_embeddings.sql",
    "functions/tune_autovacuum.sql",
)
# Of activate_space the arguments change, so that the one of before is dropped, up and down.
CHANGED: tuple[str, ...] = (
    "functions/active_space.sql",
    "functions/create_space.sql",
    "functions/activate_space.sql",
    "functions/search_run.sql",
)
SOURCES = NEW + CHANGED

TABLES = """
CREATE TABLE lookalike.space_switches (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT space_switches_pkey PRIMARY KEY,
    switched_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    switched_by text NOT NULL DEFAULT session_user,
    from_space text NOT NULL,
    to_space text NOT NULL,
    missing bigint NOT NULL,
    forced boolean NOT NULL
);
COMMENT ON TABLE lookalike.space_switches IS
    'Each switch of the active embedding space; lookalike.rollback_space goes back by it.';
COMMENT ON COLUMN lookalike.space_switches.missing IS
    'Images that could be found before the switch and had no embedding in the space switched to';
"""

REVISIONS = """
CREATE TABLE lookalike.schema_revisions (
    revision text CONSTRAINT schema_revisions_pkey PRIMARY KEY,
    serves text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE lookalike.schema_revisions IS
    'Revisions in effect, from 0005 on, and the oldest code that goes on working with each.';
COMMENT ON COLUMN lookalike.schema_revisions.serves IS
    'Code of this revision and later ones works while and after the revision runs';
"""

# What active_space_id says, for a database that has an active space already.
NAME_ACTIVE = """
DO $$
BEGIN
    EXECUTE (
        SELECT format('CREATE OR REPLACE FUNCTION lookalike.active_space_id() RETURNS smallint LANGUAGE sql STABLE '
                      'AS $sql$ SELECT %s::smallint $sql$', s.id)
        FROM lookalike.embedding_spaces s WHERE s.active);
EXCEPTION WHEN null_value_not_allowed THEN  -- no space is active
END
$$
"""


RESET_AUTOVACUUM = """
DO $$
DECLARE
    tuned text;
BEGIN
    FOR tuned IN SELECT 'images' UNION ALL SELECT s.table_name FROM lookalike.embedding_spaces s LOOP
        EXECUTE format('ALTER TABLE lookalike.%I RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold, '
                       'autovacuum_vacuum_insert_scale_factor, autovacuum_analyze_scale_factor)', tuned);
    END LOOP;
END
$$
"""


def upgrade() -> None:
    use_schema_path()
    op.execute(TABLES)
    op.execute(REVISIONS)
    op.execute("DROP FUNCTION lookalike.activate_space(text)")
    load(revision, *SOURCES)
    op.execute(NAME_ACTIVE)
    op.execute("SELECT lookalike.tune_autovacuum()")


def downgrade() -> None:
    use_schema_path()
    refuse_loss(space_switches="records of switches")
    op.execute("DROP FUNCTION lookalike.activate_space(text, boolean)")
    op.execute(RESET_AUTOVACUUM)
    load(down_revision, *CHANGED)
    drop(*reversed(NEW))
    op.execute("DROP TABLE lookalike.schema_revisions")
    op.execute("DROP TABLE lookalike.space_switches")
