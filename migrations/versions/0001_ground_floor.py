"""Images, embedding spaces, jobs, failures, workers and query images; triggers, queue and search functions, views."""

from collections.abc import Sequence

from alembic import op
from sqlalchemy import text

from migrations.sources import drop, load, refuse_loss, use_schema_path

revision: str = "0001"
down_revision: str | None = None
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

TABLES = """
CREATE TABLE lookalike.images (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT images_pkey PRIMARY KEY,
    uri text NOT NULL CONSTRAINT images_uri_key UNIQUE CONSTRAINT images_uri_check CHECK (uri <> ''),
    sha256 bytea CONSTRAINT images_sha256_check CHECK (octet_length(sha256) = 32),
    media_type text,
    width integer,
    height integer,
    caption text,
    attributes jsonb NOT NULL DEFAULT '{}'
        CONSTRAINT images_attributes_check CHECK (jsonb_typeof(attributes) = 'object'),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX images_attributes ON lookalike.images USING gin (attributes jsonb_path_ops);
CREATE INDEX images_sha256 ON lookalike.images (sha256);
COMMENT ON TABLE lookalike.images IS
    'One row an image. Any client may write; triggers keep jobs and embeddings right.';

CREATE TABLE lookalike.embedding_spaces (
    id smallint GENERATED ALWAYS AS IDENTITY CONSTRAINT embedding_spaces_pkey PRIMARY KEY,
    name text NOT NULL CONSTRAINT embedding_spaces_name_key UNIQUE,
    model text NOT NULL,
    weights text,
    preprocessing jsonb NOT NULL,
    fingerprint text NOT NULL,
    dimensions integer NOT NULL,
    index_options jsonb NOT NULL,
    table_name text NOT NULL,
    active boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX embedding_spaces_one_active ON lookalike.embedding_spaces (active) WHERE active;
COMMENT ON TABLE lookalike.embedding_spaces IS
    'A model with its preprocessing and index; the embeddings are in a table of its own.';
COMMENT ON COLUMN lookalike.embedding_spaces.weights IS
    'Local weight file; NULL: a weight package or timm''s own';
COMMENT ON COLUMN lookalike.embedding_spaces.preprocessing IS 'timm data config';
COMMENT ON COLUMN lookalike.embedding_spaces.fingerprint IS 'Of model, preprocessing and weights together';

CREATE TABLE lookalike.jobs (
    image_id bigint NOT NULL CONSTRAINT jobs_image_id_fkey REFERENCES lookalike.images ON DELETE CASCADE,
    space_id smallint NOT NULL CONSTRAINT jobs_space_id_fkey
        REFERENCES lookalike.embedding_spaces ON DELETE CASCADE,
    lease uuid,
    attempts smallint NOT NULL DEFAULT 0,
    available_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    enqueued_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT jobs_pkey PRIMARY KEY (image_id, space_id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);
CREATE INDEX jobs_due ON lookalike.jobs (space_id, available_at);
COMMENT ON TABLE lookalike.jobs IS
    'Images to embed, one row an image and space; gone when the embedding is written.';
COMMENT ON COLUMN lookalike.jobs.lease IS 'The claim that holds the job';
COMMENT ON COLUMN lookalike.jobs.available_at IS
    'Due from then on; a claim moves it to the end of its lease';

CREATE TABLE lookalike.failures (
    image_id bigint NOT NULL CONSTRAINT failures_image_id_fkey REFERENCES lookalike.images ON DELETE CASCADE,
    space_id smallint NOT NULL CONSTRAINT failures_space_id_fkey
        REFERENCES lookalike.embedding_spaces ON DELETE CASCADE,
    uri text NOT NULL,
    step text NOT NULL,
    reason text NOT NULL,
    attempts smallint NOT NULL,
    failed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT failures_pkey PRIMARY KEY (image_id, space_id)
);
CREATE INDEX failures_space_id_failed_at ON lookalike.failures (space_id, failed_at);
COMMENT ON TABLE lookalike.failures IS
    'Images that could not be embedded, with the reason; lookalike.retry_failures queues them again.';
COMMENT ON COLUMN lookalike.failures.step IS 'fetch, decode, transform, encode or write';

CREATE TABLE lookalike.workers (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT workers_pkey PRIMARY KEY,
    name text NOT NULL,
    version text NOT NULL,
    device text NOT NULL,
    space_ids smallint[] NOT NULL,
    state text NOT NULL DEFAULT 'starting',
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    images_embedded bigint NOT NULL DEFAULT 0,
    images_failed bigint NOT NULL DEFAULT 0,
    queries_answered bigint NOT NULL DEFAULT 0,
    last_error text
);
COMMENT ON TABLE lookalike.workers IS 'One row a running worker; see lookalike.worker_status.';
COMMENT ON COLUMN lookalike.workers.name IS 'host:pid';

CREATE UNLOGGED TABLE lookalike.query_images (
    sha256 bytea NOT NULL,
    space_id smallint NOT NULL CONSTRAINT query_images_space_id_fkey
        REFERENCES lookalike.embedding_spaces ON DELETE CASCADE,
    image bytea,
    embedding halfvec,
    reason text,
    asked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    available_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    answered_at timestamptz,
    CONSTRAINT query_images_pkey PRIMARY KEY (sha256, space_id)
);
CREATE INDEX query_images_due ON lookalike.query_images (space_id, available_at) WHERE answered_at IS NULL;
COMMENT ON TABLE lookalike.query_images IS
    'Query images on their way to a worker and back; a cache of a while, not a record.';
COMMENT ON COLUMN lookalike.query_images.image IS 'The bytes, until they are embedded';
COMMENT ON COLUMN lookalike.query_images.reason IS 'Why it could not be embedded';
"""

TABLE_NAMES = ("images", "embedding_spaces", "jobs", "failures", "workers", "query_images")

# In the order of their needs: views before the functions whose signatures name them.
SOURCES = (
    "functions/count_up_to.sql",
    "functions/live_workers.sql",
    "views/active_embeddings.sql",
    "views/gallery.sql",
    "views/space_status.sql",
    "views/worker_status.sql",
    "functions/active_space.sql",
    "functions/activate_space.sql",
    "functions/create_space.sql",
    "functions/forget_embeddings.sql",
    "functions/enqueue.sql",
    "functions/enqueue_missing.sql",
    "functions/enqueue_inserted.sql",
    "functions/enqueue_changed.sql",
    "functions/set_image_times.sql",
    "triggers/images_set_times.sql",
    "triggers/images_enqueue_inserted.sql",
    "triggers/images_enqueue_changed.sql",
    "functions/claim_jobs.sql",
    "functions/finish_jobs.sql",
    "functions/fail_jobs.sql",
    "functions/release_jobs.sql",
    "functions/retry_failures.sql",
    "functions/ask_embedding.sql",
    "functions/claim_queries.sql",
    "functions/answer_queries.sql",
    "functions/answer_of.sql",
    "functions/forget_answers.sql",
    "functions/begin_worker.sql",
    "functions/beat_worker.sql",
    "functions/attribute_boolean.sql",
    "functions/attribute_expression.sql",
    "functions/attribute_index_ddl.sql",
    "functions/attribute_index_name.sql",
    "functions/attribute_indexed.sql",
    "functions/attribute_indexes.sql",
    "functions/attribute_name.sql",
    "functions/attribute_numeric.sql",
    "functions/attribute_path.sql",
    "functions/attribute_text.sql",
    "functions/attribute_texts.sql",
    "functions/attribute_timestamp.sql",
    "functions/filter_attribute.sql",
    "functions/filter_attribute_contains.sql",
    "functions/filter_attribute_in.sql",
    "functions/filter_column.sql",
    "functions/filter_column_kind.sql",
    "functions/filter_condition.sql",
    "functions/filter_dated.sql",
    "functions/filter_field.sql",
    "functions/filter_fits_index.sql",
    "functions/filter_literal.sql",
    "functions/filter_moment.sql",
    "functions/filter_nested.sql",
    "functions/filter_object.sql",
    "functions/filter_operand.sql",
    "functions/search_ef.sql",
    "functions/search_filter_cost.sql",
    "functions/search_passing.sql",
    "functions/search_sample.sql",
    "functions/search_scan.sql",
    "functions/search_no_embedding.sql",
    "functions/embedding_of.sql",
    "functions/search_exact.sql",
    "functions/search_run.sql",
    "functions/search.sql",
    "functions/similar.sql",
    "functions/explain_search.sql",
)


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS vector")
    use_schema_path()
    op.execute(TABLES)
    load(revision, *SOURCES)


def downgrade() -> None:
    use_schema_path()
    space_tables = op.get_bind().scalars(text("SELECT table_name FROM lookalike.embedding_spaces ORDER BY id")).all()
    refuse_loss(images="images", failures="failures", **dict.fromkeys(space_tables, "embeddings"))
    # Made by users through `lookalike attribute add`, on functions that go now.
    for index in op.get_bind().scalars(text("SELECT index_name FROM lookalike.attribute_indexes()")).all():
        op.drop_index(index, table_name="images", schema="lookalike")
    drop(*reversed(SOURCES))
    for table in (*space_tables, *reversed(TABLE_NAMES)):
        op.drop_table(table, schema="lookalike")
