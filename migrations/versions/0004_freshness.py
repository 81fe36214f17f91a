"""Workers: embeddings by content, freshness as numbers, shares of the device."""

from collections.abc import Sequence

from alembic import op

from migrations.sources import drop, load, use_schema_path

revision: str = "0004"
down_revision: str = "0003"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

# Counts of the past, a cache of no other table: a downgrade may drop them.
TABLES = """
CREATE TABLE lookalike.latencies (
    space_id smallint NOT NULL,  -- no foreign key: a space that is being removed must not hold up a heartbeat
    measure text NOT NULL,
    slot timestamptz NOT NULL,
    bucket smallint NOT NULL,
    count bigint NOT NULL,
    seconds double precision NOT NULL,
    CONSTRAINT latencies_pkey PRIMARY KEY (space_id, measure, slot, bucket)
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_threshold = 500);
COMMENT ON TABLE lookalike.latencies IS
    'How long things took: counts by slot of time and bucket of duration; see lookalike.latency_status.';
COMMENT ON COLUMN lookalike.latencies.slot IS 'Ten seconds from then on; -infinity: all that is older';
COMMENT ON COLUMN lookalike.latencies.bucket IS 'Its end is lookalike.latency_bound(bucket) seconds';
"""

NEW = (
    "functions/latency_bound.sql",
    "functions/latency_quantile.sql",
    "functions/add_latencies.sql",
    "functions/fold_latencies.sql",
    "functions/count_about.sql",
    "functions/known_embeddings.sql",
    "views/latency_status.sql",
    "views/freshness.sql",
    "views/failure_reasons.sql",
)
# Replaced by something of another type, so dropped first, both ways.
RETYPED = ("views/space_status.sql", "functions/claim_queries.sql")
CHANGED = (
    *RETYPED,
    "functions/enqueue_changed.sql",
    "functions/finish_jobs.sql",
    "functions/fail_jobs.sql",
    "functions/answer_queries.sql",
    "functions/ask_embedding.sql",
)
SOURCES = NEW + CHANGED


def upgrade() -> None:
    use_schema_path()
    op.execute(TABLES)
    drop(*RETYPED)
    load(revision, *SOURCES)


def downgrade() -> None:
    use_schema_path()
    drop(*RETYPED, *reversed(NEW))
    load(down_revision, *CHANGED)
    op.drop_table("latencies", schema="lookalike")
