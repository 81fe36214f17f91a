"""The tables of schema `lookalike`, as SQLAlchemy metadata: what Alembic compares the database with.

The tables of embedding spaces (`embeddings_<id>`) are made by `lookalike.create_space` and stand outside; so do
functions, views and triggers, whose source is `sql/`. Imports nothing of the project.
"""

from datetime import datetime

from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import (
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = MetaData(
    schema="lookalike",
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "pk": "%(table_name)s_pkey",
    },
)

_now = text("clock_timestamp()")


def _time(name: str, *, nullable: bool = False) -> "Column[datetime]":
    return Column(name, DateTime(timezone=True), nullable=nullable, server_default=None if nullable else _now)


def _of_space(*, primary_key: bool = False, index: bool = False) -> "Column[int]":
    """The space that a row belongs to and goes with."""
    space = ForeignKey("lookalike.embedding_spaces.id", ondelete="CASCADE")
    return Column("space_id", SmallInteger, space, nullable=False, primary_key=primary_key, index=index)


images = Table(
    "images",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("uri", Text, nullable=False, unique=True),
    Column("sha256", LargeBinary),
    Column("media_type", Text),
    Column("width", Integer),
    Column("height", Integer),
    Column("caption", Text),
    Column("attributes", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    _time("created_at"),
    _time("updated_at"),
    CheckConstraint("uri <> ''", name="uri"),
    CheckConstraint("octet_length(sha256) = 32", name="sha256"),
    CheckConstraint("jsonb_typeof(attributes) = 'object'", name="attributes"),
    Index(None, "attributes", postgresql_using="gin", postgresql_ops={"attributes": "jsonb_path_ops"}),
    Index(None, "sha256"),
    Index("images_document", text("lookalike.image_document(caption, attributes)"), postgresql_using="gin"),
    comment="One row an image. Any client may write; triggers keep jobs and embeddings right.",
)

embedding_spaces = Table(
    "embedding_spaces",
    metadata,
    Column("id", SmallInteger, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("model", Text, nullable=False),
    Column("weights", Text, comment="Local weight file; NULL: a weight package or timm's own"),
    Column("preprocessing", JSONB, nullable=False, comment="timm data config"),
    Column("fingerprint", Text, nullable=False, comment="Of model, preprocessing and weights together"),
    Column("dimensions", Integer, nullable=False),
    Column("index_options", JSONB, nullable=False),
    Column("table_name", Text, nullable=False),
    Column("active", Boolean, nullable=False, server_default=text("false")),
    _time("created_at"),
    Column(
        "transform_id",
        SmallInteger,
        ForeignKey("lookalike.transforms.id", use_alter=True),
        comment="Reduces what the model encodes to what is stored; NULL: it is stored as encoded",
    ),
    Column("encoded_dimensions", Integer, comment="Of what the model encodes, where it is reduced"),
    Index("embedding_spaces_one_active", "active", unique=True, postgresql_where=text("active")),
    comment="A model with its preprocessing and index; the embeddings are in a table of its own.",
)

jobs = Table(
    "jobs",
    metadata,
    Column("image_id", BigInteger, ForeignKey("lookalike.images.id", ondelete="CASCADE"), primary_key=True),
    Column("space_id", SmallInteger, ForeignKey("lookalike.embedding_spaces.id", ondelete="CASCADE"), primary_key=True),
    Column("lease", Uuid, comment="The claim that holds the job"),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    Column(
        "available_at",
        DateTime(timezone=True),
        nullable=False,
        server_default=_now,
        comment="Due from then on; a claim moves it to the end of its lease",
    ),
    _time("enqueued_at"),
    Index("jobs_due", "space_id", "available_at"),
    postgresql_with={"autovacuum_vacuum_scale_factor": "0.02", "autovacuum_vacuum_threshold": "500"},
    comment="Images to embed, one row an image and space; gone when the embedding is written.",
)

failures = Table(
    "failures",
    metadata,
    Column("image_id", BigInteger, ForeignKey("lookalike.images.id", ondelete="CASCADE"), primary_key=True),
    Column("space_id", SmallInteger, ForeignKey("lookalike.embedding_spaces.id", ondelete="CASCADE"), primary_key=True),
    Column("uri", Text, nullable=False),
    Column("step", Text, nullable=False, comment="fetch, decode, transform, encode or write"),
    Column("reason", Text, nullable=False),
    Column("attempts", SmallInteger, nullable=False),
    _time("failed_at"),
    Index(None, "space_id", "failed_at"),
    comment="Images that could not be embedded, with the reason; lookalike.retry_failures queues them again.",
)

workers = Table(
    "workers",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False, comment="host:pid"),
    Column("version", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("space_ids", ARRAY(SmallInteger), nullable=False),
    Column("state", Text, nullable=False, server_default="starting"),
    _time("started_at"),
    _time("heartbeat_at"),
    Column("images_embedded", BigInteger, nullable=False, server_default=text("0")),
    Column("images_failed", BigInteger, nullable=False, server_default=text("0")),
    Column("queries_answered", BigInteger, nullable=False, server_default=text("0")),
    Column("last_error", Text),
    comment="One row a running worker; see lookalike.worker_status.",
)

latencies = Table(
    "latencies",
    metadata,
    Column("space_id", SmallInteger, primary_key=True, autoincrement=False),
    Column("measure", Text, primary_key=True),
    Column(
        "slot",
        DateTime(timezone=True),
        primary_key=True,
        comment="Ten seconds from then on; -infinity: all that is older",
    ),
    Column(
        "bucket",
        SmallInteger,
        primary_key=True,
        autoincrement=False,
        comment="Its end is lookalike.latency_bound(bucket) seconds",
    ),
    Column("count", BigInteger, nullable=False),
    Column("seconds", Double, nullable=False),
    postgresql_with={
        "fillfactor": "60",
        "autovacuum_vacuum_scale_factor": "0.1",
        "autovacuum_vacuum_threshold": "500",
    },
    comment="How long things took: counts by slot of time and bucket of duration; see lookalike.latency_status.",
)

query_images = Table(
    "query_images",
    metadata,
    Column("sha256", LargeBinary, primary_key=True),
    Column("space_id", SmallInteger, ForeignKey("lookalike.embedding_spaces.id", ondelete="CASCADE"), primary_key=True),
    Column("image", LargeBinary, comment="The bytes, until they are embedded"),
    Column("embedding", HALFVEC),
    Column("reason", Text, comment="Why it could not be embedded"),
    _time("asked_at"),
    _time("available_at"),
    _time("answered_at", nullable=True),
    Index("query_images_due", "space_id", "available_at", postgresql_where=text("answered_at IS NULL")),
    prefixes=["UNLOGGED"],
    comment="Query images on their way to a worker and back; a cache of a while, not a record.",
)

transforms = Table(
    "transforms",
    metadata,
    Column("id", SmallInteger, Identity(always=True), primary_key=True),
    Column("space_id", SmallInteger, ForeignKey("lookalike.embedding_spaces.id", ondelete="CASCADE"), nullable=False),
    Column("bits", Integer, comment="How many sign bits, along rotated axes"),
    Column("dimensions", Integer, comment="How many principal components"),
    Column("fingerprint", Text, nullable=False, comment="Of its axes and shifts together"),
    Column("sample_size", Integer, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("explained_variance", Double, nullable=False, comment="Share of the sample's variance within the axes"),
    _time("fitted_at"),
    Column("filled_at", DateTime(timezone=True), comment="When all embeddings there had their candidates"),
    CheckConstraint("bits IS NOT NULL OR dimensions IS NOT NULL", name="form"),
    Index(None, "space_id"),
    comment="Rotations fitted on embeddings of a space: what candidates_<id> holds of each. Never changed, only fitted "
    "anew.",
)

transform_axes = Table(
    "transform_axes",
    metadata,
    Column("transform_id", SmallInteger, ForeignKey("lookalike.transforms.id", ondelete="CASCADE"), primary_key=True),
    Column("form", Text, primary_key=True),
    Column("n", SmallInteger, primary_key=True, autoincrement=False),
    Column("shift", Double, nullable=False, comment="The inner product of the axis with the mean of the sample"),
    Column("axis", HALFVEC, nullable=False),
    CheckConstraint("form IN ('bits', 'reduced')", name="form"),
    comment="The rows of the rotations; see lookalike.transformed.",
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False),
    Column("prefix", Text, nullable=False, comment="What a key begins with, to recognise it by"),
    Column(
        "secret_sha256",
        LargeBinary,
        nullable=False,
        comment="Of the whole key, which is 256 random bits and stored nowhere",
    ),
    Column("scope", Text, nullable=False),
    _time("created_at"),
    _time("expires_at", nullable=True),
    _time("last_used_at", nullable=True),
    _time("revoked_at", nullable=True),
    CheckConstraint("name <> ''", name="name"),
    CheckConstraint("octet_length(secret_sha256) = 32", name="secret_sha256"),
    CheckConstraint("scope IN ('search', 'write', 'admin')", name="scope"),
    Index("api_keys_name_key", "name", unique=True, postgresql_where=text("revoked_at IS NULL")),
    Index(None, "prefix"),
    comment="Keys of the HTTP API; see lookalike key.",
)

api_answers = Table(
    "api_answers",
    metadata,
    Column("caller", Text, primary_key=True, comment="The API key's id; empty where none was asked for"),
    Column("idempotency_key", Text, primary_key=True),
    Column("request_sha256", LargeBinary, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("headers", JSONB, nullable=False),
    Column("body", LargeBinary, nullable=False),
    _time("answered_at"),
    Index(None, "answered_at"),
    comment="Answers to writes that came with an Idempotency-Key, for 24 hours; a cache, not a record.",
)

space_switches = Table(
    "space_switches",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _time("switched_at"),
    Column("switched_by", Text, nullable=False, server_default=text("SESSION_USER")),
    Column("from_space", Text, nullable=False),
    Column("to_space", Text, nullable=False),
    Column(
        "missing",
        BigInteger,
        nullable=False,
        comment="Images that could be found before the switch and had no embedding in the space switched to",
    ),
    Column("forced", Boolean, nullable=False),
    comment="Each switch of the active embedding space; lookalike.rollback_space goes back by it.",
)

measurement_runs = Table(
    "measurement_runs",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _time("started_at"),
    Column("ended_at", DateTime(timezone=True), comment="NULL: interrupted or going on"),
    Column("space", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("dimensions", Integer, nullable=False),
    Column(
        "rows_total",
        BigInteger,
        nullable=False,
        comment="Embeddings of the space then; a sample of them was measured",
    ),
    Column("request", JSONB, nullable=False),
    Column("conditions", JSONB, nullable=False, comment="Hardware, versions and settings"),
    comment="Each run of lookalike tradeoffs: what was asked for, and under what conditions.",
)

measurements = Table(
    "measurements",
    metadata,
    Column("run_id", BigInteger, ForeignKey("lookalike.measurement_runs.id", ondelete="CASCADE"), primary_key=True),
    Column("choice", Text, primary_key=True),
    Column("options", JSONB, nullable=False, comment="As index_options of a space that is to be searched so"),
    Column("rows", BigInteger, nullable=False),
    Column("k", Integer, nullable=False),
    Column("recall", Double, nullable=False),
    Column(
        "recall_floor",
        Double,
        nullable=False,
        comment="The mean recall of such queries is above it, with 95 % confidence",
    ),
    Column("label_precision", Double),
    Column("p50_ms", Double, nullable=False),
    Column("p95_ms", Double, nullable=False),
    Column("p99_ms", Double, nullable=False),
    Column(
        "p95_ceiling_ms", Double, nullable=False, comment="The p95 of such queries is below it, with 95 % confidence"
    ),
    Column("qps", JSONB, nullable=False, comment="Queries a second, by the number of clients at once"),
    Column("build_seconds", Double, nullable=False),
    Column("insert_ms", Double, nullable=False, comment="A row written with this index in place"),
    Column("index_bytes", BigInteger, nullable=False),
    Column(
        "table_bytes", BigInteger, nullable=False, comment="Embeddings with their primary key, without the ANN index"
    ),
    Column("memory_bytes", BigInteger, nullable=False, comment="What a build of the index holds in memory"),
    Column("query_ms", ARRAY(REAL), nullable=False, comment="Raw: each timed search"),
    Column("query_recalls", ARRAY(REAL), nullable=False, comment="Raw: each query"),
    _time("measured_at"),
    comment="What one index choice gave on a sample of a space; see lookalike tradeoffs.",
)

search_samples = Table(
    "search_samples",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _of_space(),
    Column("source", Text, nullable=False),
    Column("query", HALFVEC, nullable=False, comment="Gone with the row once it is checked, or after some days"),
    Column("k", Integer, nullable=False),
    Column("filter", JSONB),
    Column("max_distance", Double),
    Column("exclude", ARRAY(BigInteger), nullable=False),
    Column("recall", Double, nullable=False),
    Column("strategy", Text, nullable=False),
    Column("proven", Boolean, nullable=False, comment="The answer given was exact"),
    _time("searched_at"),
    prefixes=["UNLOGGED"],
    comment="Live searches whose recall is still to be checked; see lookalike.sample_search. "
    "Not in backups, WAL or standbys.",
)

recall_checks = Table(
    "recall_checks",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _of_space(),
    Column("source", Text, nullable=False),
    Column("searched_at", DateTime(timezone=True), nullable=False),
    _time("checked_at"),
    Column("k", Integer, nullable=False),
    Column("asked", Double, nullable=False, comment="The recall that the search asked for"),
    Column("plan", Text),
    Column("ef_search", Integer),
    Column("passing", Double, comment="Share of the images that pass the filter; NULL without one"),
    Column("expected", Integer),
    Column("recall", Double, comment="NULL where nothing was to be found, or nothing could be checked"),
    Column("search_seconds", Double),
    Column("seconds", Double, nullable=False),
    Column("reason", Text, comment="Why it could not be checked"),
    Index(None, "checked_at", "space_id"),
    comment="Recall of live searches, each checked against an exact search; see lookalike.recall_status.",
)

recall_adjustments = Table(
    "recall_adjustments",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _of_space(index=True),
    _time("adjusted_at"),
    Column("adjusted_by", Text, nullable=False, server_default=text("SESSION_USER")),
    Column("from_depth", Double, nullable=False),
    Column("to_depth", Double, nullable=False),
    Column("reason", Text, nullable=False),
    comment="Each change of a space's search depth; see lookalike.adjust_recall and set_search_depth.",
)

worker_costs = Table(
    "worker_costs",
    metadata,
    _of_space(primary_key=True),
    Column("device", Text, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("measure", Text, primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("seconds", Double, nullable=False),
    postgresql_with={"fillfactor": "60"},
    comment="What workers have spent, by space, device and day in UTC; see lookalike.cost_status.",
)

data_changes = Table(
    "data_changes",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("space_id", SmallInteger, nullable=False),
    Column("operation", Text, nullable=False),
    _time("changed_at"),
    Column("changed_by", Text, nullable=False, server_default=text("SESSION_USER")),
    Index(None, "space_id"),
    comment="Each statement that changed the data of an audited space; their number is lookalike.data_version.",
)
