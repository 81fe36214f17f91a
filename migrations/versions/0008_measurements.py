"""The trade-off lab: measurements, recall of live searches."""

from collections.abc import Sequence

from alembic import op

from migrations.sources import drop, load, refuse_loss, use_schema_path

revision: str = "0008"
down_revision: str = "0007"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

TABLES = """
CREATE TABLE lookalike.measurement_runs (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT measurement_runs_pkey PRIMARY KEY,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    space text NOT NULL,
    fingerprint text NOT NULL,
    dimensions integer NOT NULL,
    rows_total bigint NOT NULL,
    request jsonb NOT NULL,
    conditions jsonb NOT NULL
);
COMMENT ON TABLE lookalike.measurement_runs IS
    'Each run of lookalike tradeoffs: what was asked for, and under what conditions.';
COMMENT ON COLUMN lookalike.measurement_runs.ended_at IS 'NULL: interrupted or going on';
COMMENT ON COLUMN lookalike.measurement_runs.rows_total IS
    'Embeddings of the space then; a sample of them was measured';
COMMENT ON COLUMN lookalike.measurement_runs.conditions IS 'Hardware, versions and settings';

CREATE TABLE lookalike.measurements (
    run_id bigint NOT NULL CONSTRAINT measurements_run_id_fkey
        REFERENCES lookalike.measurement_runs (id) ON DELETE CASCADE,
    choice text NOT NULL,
    options jsonb NOT NULL,
    rows bigint NOT NULL,
    k integer NOT NULL,
    recall double precision NOT NULL,
    recall_floor double precision NOT NULL,
    label_precision double precision,
    p50_ms double precision NOT NULL,
    p95_ms double precision NOT NULL,
    p99_ms double precision NOT NULL,
    p95_ceiling_ms double precision NOT NULL,
    qps jsonb NOT NULL,
    build_seconds double precision NOT NULL,
    insert_ms double precision NOT NULL,
    index_bytes bigint NOT NULL,
    table_bytes bigint NOT NULL,
    memory_bytes bigint NOT NULL,
    query_ms real[] NOT NULL,
    query_recalls real[] NOT NULL,
    measured_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT measurements_pkey PRIMARY KEY (run_id, choice)
);
COMMENT ON TABLE lookalike.measurements IS
    'What one index choice gave on a sample of a space; see lookalike tradeoffs.';
COMMENT ON COLUMN lookalike.measurements.options IS 'As index_options of a space that is to be searched so';
COMMENT ON COLUMN lookalike.measurements.recall_floor IS
    'The mean recall of such queries is above it, with 95 % confidence';
COMMENT ON COLUMN lookalike.measurements.p95_ceiling_ms IS
    'The p95 of such queries is below it, with 95 % confidence';
COMMENT ON COLUMN lookalike.measurements.qps IS 'Queries a second, by the number of clients at once';
COMMENT ON COLUMN lookalike.measurements.insert_ms IS 'A row written with this index in place';
COMMENT ON COLUMN lookalike.measurements.table_bytes IS 'Embeddings with their primary key, without the ANN index';
COMMENT ON COLUMN lookalike.measurements.memory_bytes IS 'What a build of the index holds in memory';
COMMENT ON COLUMN lookalike.measurements.query_ms IS 'Raw: each timed search';
COMMENT ON COLUMN lookalike.measurements.query_recalls IS 'Raw: each query';
"""

NEW: tuple[str, ...] = ()
CHANGED: tuple[str, ...] = ()
SOURCES = NEW + CHANGED


def upgrade() -> None:
    use_schema_path()
    op.execute(TABLES)
    load(revision, *SOURCES)
    op.execute("SELECT lookalike.grant_privileges()")


def downgrade() -> None:
    use_schema_path()
    refuse_loss(measurements="measurements")
    load(down_revision, *CHANGED)
    drop(*reversed(NEW))
    op.drop_table("measurements", schema="lookalike")
    op.drop_table("measurement_runs", schema="lookalike")
