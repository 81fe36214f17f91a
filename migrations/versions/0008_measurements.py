"""The trade-off lab: measurements, recall of live searches."""

from collections.abc import Sequence

from alembic import op

from migrations.sources import drop, load, refuse_loss, use_schema_path

revision: str = "0008"
down_revision: str = "0007"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None
# The oldest code that goes on working while this revision runs and after it; see docs/operations.md, Upgrades.
serves: str = "0008"

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

RECALL_AND_COSTS = """
CREATE UNLOGGED TABLE lookalike.search_samples (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT search_samples_pkey PRIMARY KEY,
    space_id smallint NOT NULL
        CONSTRAINT search_samples_space_id_fkey REFERENCES lookalike.embedding_spaces (id) ON DELETE CASCADE,
    source text NOT NULL,
    query halfvec NOT NULL,
    k integer NOT NULL,
    filter jsonb,
    max_distance double precision,
    "exclude" bigint[] NOT NULL,
    recall double precision NOT NULL,
    strategy text NOT NULL,
    proven boolean NOT NULL,
    searched_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE lookalike.search_samples IS
    'Live searches whose recall is still to be checked; see lookalike.sample_search. Not in backups, WAL or standbys.';
COMMENT ON COLUMN lookalike.search_samples.query IS 'Gone with the row once it is checked, or after some days';
COMMENT ON COLUMN lookalike.search_samples.proven IS 'The answer given was exact';

CREATE TABLE lookalike.recall_checks (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT recall_checks_pkey PRIMARY KEY,
    space_id smallint NOT NULL
        CONSTRAINT recall_checks_space_id_fkey REFERENCES lookalike.embedding_spaces (id) ON DELETE CASCADE,
    source text NOT NULL,
    searched_at timestamptz NOT NULL,
    checked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    k integer NOT NULL,
    asked double precision NOT NULL,
    plan text,
    ef_search integer,
    passing double precision,
    expected integer,
    recall double precision,
    search_seconds double precision,
    seconds double precision NOT NULL,
    reason text
);
CREATE INDEX recall_checks_checked_at_space_id ON lookalike.recall_checks (checked_at, space_id);
COMMENT ON TABLE lookalike.recall_checks IS
    'Recall of live searches, each checked against an exact search; see lookalike.recall_status.';
COMMENT ON COLUMN lookalike.recall_checks.asked IS 'The recall that the search asked for';
COMMENT ON COLUMN lookalike.recall_checks.passing IS 'Share of the images that pass the filter; NULL without one';
COMMENT ON COLUMN lookalike.recall_checks.recall IS 'NULL where nothing was to be found, or nothing could be checked';
COMMENT ON COLUMN lookalike.recall_checks.reason IS 'Why it could not be checked';

CREATE TABLE lookalike.recall_adjustments (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT recall_adjustments_pkey PRIMARY KEY,
    space_id smallint NOT NULL
        CONSTRAINT recall_adjustments_space_id_fkey REFERENCES lookalike.embedding_spaces (id) ON DELETE CASCADE,
    adjusted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    adjusted_by text NOT NULL DEFAULT SESSION_USER,
    from_depth double precision NOT NULL,
    to_depth double precision NOT NULL,
    reason text NOT NULL
);
CREATE INDEX recall_adjustments_space_id ON lookalike.recall_adjustments (space_id);
COMMENT ON TABLE lookalike.recall_adjustments IS
    'Each change of a space''s search depth; see lookalike.adjust_recall and set_search_depth.';

CREATE TABLE lookalike.worker_costs (
    space_id smallint NOT NULL
        CONSTRAINT worker_costs_space_id_fkey REFERENCES lookalike.embedding_spaces (id) ON DELETE CASCADE,
    device text NOT NULL,
    day date NOT NULL,
    measure text NOT NULL,
    count bigint NOT NULL,
    seconds double precision NOT NULL,
    CONSTRAINT worker_costs_pkey PRIMARY KEY (space_id, device, day, measure)
) WITH (fillfactor = 60);
COMMENT ON TABLE lookalike.worker_costs IS
    'What workers have spent, by space, device and day in UTC; see lookalike.cost_status.';
"""

REVOKE = """
DO $$
DECLARE
    grantee text;
BEGIN
    FOR grantee IN SELECT c.role FROM lookalike.roles_check c WHERE c.present LOOP
        EXECUTE format('REVOKE UPDATE (index_options) ON lookalike.embedding_spaces FROM %I', grantee);
    END LOOP;
END
$$
"""

AUDIT = """
CREATE TABLE lookalike.data_changes (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT data_changes_pkey PRIMARY KEY,
    space_id smallint NOT NULL,  -- no foreign key: a writer must not wait for a space that is being dropped
    operation text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_by text NOT NULL DEFAULT session_user
);
CREATE INDEX data_changes_space_id ON lookalike.data_changes (space_id);
COMMENT ON TABLE lookalike.data_changes IS
    'Each statement that changed the data of an audited space; their number is lookalike.data_version.';
"""

# Of dropped spaces as well.
NO_MORE_AUDITS = """
DO $$
DECLARE
    audit record;
BEGIN
    FOR audit IN SELECT t.tgname, t.tgrelid::regclass AS relation FROM pg_trigger t
                 WHERE t.tgfoid = 'lookalike.note_change'::regproc LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', audit.tgname, audit.relation);
    END LOOP;
END
$$
"""

NEW: tuple[str, ...] = (
    "functions/note_change.sql",
    "functions/audited.sql",
    "functions/audit_space.sql",
    "functions/data_version.sql",
    "functions/audited_search.sql",
    "functions/selectivity_class.sql",
    "functions/recall_margin.sql",
    "functions/check_recall.sql",
    "functions/check_sample.sql",
    "functions/give_up_sample.sql",
    "functions/sample_search.sql",
    "functions/samples_waiting.sql",
    "functions/forget_recall.sql",
    "functions/index_built.sql",
    "functions/set_search_depth.sql",
    "functions/adjust_recall.sql",
    "functions/add_costs.sql",
    "functions/cost_of_workers.sql",
    "views/storage_parts.sql",
    "views/recall_status.sql",
    "views/recall_trend.sql",
)
CHANGED: tuple[str, ...] = ("functions/grant_privileges.sql",)
SOURCES = NEW + CHANGED


def upgrade() -> None:
    use_schema_path()
    op.execute(TABLES)
    op.execute(RECALL_AND_COSTS)
    op.execute(AUDIT)
    load(revision, *SOURCES)
    op.execute("SELECT lookalike.grant_privileges()")


def downgrade() -> None:
    use_schema_path()
    refuse_loss(
        measurements="measurements",
        recall_checks="checks of live searches",
        worker_costs="rows of the cost ledger",
        data_changes="changes of audited spaces",
    )
    op.execute(NO_MORE_AUDITS)
    op.execute(REVOKE)
    drop(*reversed(NEW))
    load(down_revision, *CHANGED)
    for table in ("data_changes", "worker_costs", "recall_adjustments", "recall_checks", "search_samples"):
        op.drop_table(table, schema="lookalike")
    op.drop_table("measurements", schema="lookalike")
    op.drop_table("measurement_runs", schema="lookalike")
