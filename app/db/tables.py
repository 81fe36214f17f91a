"""The tables of schema `lookalike` as SQLAlchemy metadata, which Alembic compares the database with.

They exclude the tables of embedding spaces (`embeddings_<id>`), which `lookalike.create_space` creates. Functions,
views and triggers come from `sql/`; `sql/tables/` describes tables and columns.
"""

from datetime import datetime

from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import (
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


def time_column(name: str, *, nullable: bool = False) -> "Column[datetime]":
    """Return a timestamp column; it defaults to now unless it is nullable."""
    return Column(name, DateTime(timezone=True), nullable=nullable, server_default=None if nullable else _now)


def _of_space(*, primary_key: bool = False, index: bool = False) -> "Column[int]":
    """Return the foreign key to the row's space; dropping the space deletes the row."""
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
    time_column("created_at"),
    time_column("updated_at"),
    CheckConstraint("uri <> ''", name="uri"),
    CheckConstraint("octet_length(sha256) = 32", name="sha256"),
    CheckConstraint("jsonb_typeof(attributes) = 'object'", name="attributes"),
    Index(None, "attributes", postgresql_using="gin", postgresql_ops={"attributes": "jsonb_path_ops"}),
    Index(None, "sha256"),
    Index("images_document", text("lookalike.image_document(caption, attributes)"), postgresql_using="gin"),
)

embedding_spaces = Table(
    "embedding_spaces",
    metadata,
    Column("id", SmallInteger, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("model", Text, nullable=False),
    Column("weights", Text),
    Column("preprocessing", JSONB, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("dimensions", Integer, nullable=False),
    Column("index_options", JSONB, nullable=False),
    Column("table_name", Text, nullable=False),
    Column("active", Boolean, nullable=False, server_default=text("false")),
    time_column("created_at"),
    Column("transform_id", SmallInteger, ForeignKey("lookalike.transforms.id", use_alter=True)),
    Column("encoded_dimensions", Integer),
    Index("embedding_spaces_one_active", "active", unique=True, postgresql_where=text("active")),
)

jobs = Table(
    "jobs",
    metadata,
    Column("image_id", BigInteger, ForeignKey("lookalike.images.id", ondelete="CASCADE"), primary_key=True),
    Column("space_id", SmallInteger, ForeignKey("lookalike.embedding_spaces.id", ondelete="CASCADE"), primary_key=True),
    Column("lease", Uuid),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    Column("available_at", DateTime(timezone=True), nullable=False, server_default=_now),
    time_column("enqueued_at"),
    Index("jobs_due", "space_id", "available_at"),
    postgresql_with={"autovacuum_vacuum_scale_factor": "0.02", "autovacuum_vacuum_threshold": "500"},
)

failures = Table(
    "failures",
    metadata,
    Column("image_id", BigInteger, ForeignKey("lookalike.images.id", ondelete="CASCADE"), primary_key=True),
    Column("space_id", SmallInteger, ForeignKey("lookalike.embedding_spaces.id", ondelete="CASCADE"), primary_key=True),
    Column("uri", Text, nullable=False),
    Column("step", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("attempts", SmallInteger, nullable=False),
    time_column("failed_at"),
    Index(None, "space_id", "failed_at"),
)

workers = Table(
    "workers",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("space_ids", ARRAY(SmallInteger), nullable=False),
    Column("state", Text, nullable=False, server_default="starting"),
    time_column("started_at"),
    time_column("heartbeat_at"),
    Column("images_embedded", BigInteger, nullable=False, server_default=text("0")),
    Column("images_failed", BigInteger, nullable=False, server_default=text("0")),
    Column("queries_answered", BigInteger, nullable=False, server_default=text("0")),
    Column("last_error", Text),
)

latencies = Table(
    "latencies",
    metadata,
    Column("space_id", SmallInteger, primary_key=True, autoincrement=False),
    Column("measure", Text, primary_key=True),
    Column("slot", DateTime(timezone=True), primary_key=True),
    Column("bucket", SmallInteger, primary_key=True, autoincrement=False),
    Column("count", BigInteger, nullable=False),
    Column("seconds", Double, nullable=False),
    postgresql_with={
        "fillfactor": "60",
        "autovacuum_vacuum_scale_factor": "0.1",
        "autovacuum_vacuum_threshold": "500",
    },
)

query_images = Table(
    "query_images",
    metadata,
    Column("sha256", LargeBinary, primary_key=True),
    Column("space_id", SmallInteger, ForeignKey("lookalike.embedding_spaces.id", ondelete="CASCADE"), primary_key=True),
    Column("image", LargeBinary),
    Column("embedding", HALFVEC),
    Column("reason", Text),
    time_column("asked_at"),
    time_column("available_at"),
    time_column("answered_at", nullable=True),
    Index("query_images_due", "space_id", "available_at", postgresql_where=text("answered_at IS NULL")),
    prefixes=["UNLOGGED"],
)

transforms = Table(
    "transforms",
    metadata,
    Column("id", SmallInteger, Identity(always=True), primary_key=True),
    Column("space_id", SmallInteger, ForeignKey("lookalike.embedding_spaces.id", ondelete="CASCADE"), nullable=False),
    Column("bits", Integer),
    Column("dimensions", Integer),
    Column("fingerprint", Text, nullable=False),
    Column("sample_size", Integer, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("explained_variance", Double, nullable=False),
    time_column("fitted_at"),
    Column("filled_at", DateTime(timezone=True)),
    CheckConstraint("bits IS NOT NULL OR dimensions IS NOT NULL", name="form"),
    Index(None, "space_id"),
)

transform_axes = Table(
    "transform_axes",
    metadata,
    Column("transform_id", SmallInteger, ForeignKey("lookalike.transforms.id", ondelete="CASCADE"), primary_key=True),
    Column("form", Text, primary_key=True),
    Column("n", SmallInteger, primary_key=True, autoincrement=False),
    Column("shift", Double, nullable=False),
    Column("axis", HALFVEC, nullable=False),
    CheckConstraint("form IN ('bits', 'reduced')", name="form"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("secret_sha256", LargeBinary, nullable=False),
    Column("scope", Text, nullable=False),
    time_column("created_at"),
    time_column("expires_at", nullable=True),
    time_column("last_used_at", nullable=True),
    time_column("revoked_at", nullable=True),
    CheckConstraint("name <> ''", name="name"),
    CheckConstraint("octet_length(secret_sha256) = 32", name="secret_sha256"),
    CheckConstraint("scope IN ('search', 'write', 'admin')", name="scope"),
    Index("api_keys_name_key", "name", unique=True, postgresql_where=text("revoked_at IS NULL")),
    Index(None, "prefix"),
)

api_answers = Table(
    "api_answers",
    metadata,
    Column("caller", Text, primary_key=True),
    Column("idempotency_key", Text, primary_key=True),
    Column("request_sha256", LargeBinary, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("headers", JSONB, nullable=False),
    Column("body", LargeBinary, nullable=False),
    time_column("answered_at"),
    Index(None, "answered_at"),
)

space_switches = Table(
    "space_switches",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    time_column("switched_at"),
    Column("switched_by", Text, nullable=False, server_default=text("SESSION_USER")),
    Column("from_space", Text, nullable=False),
    Column("to_space", Text, nullable=False),
    Column("missing", BigInteger, nullable=False),
    Column("forced", Boolean, nullable=False),
)

search_samples = Table(
    "search_samples",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _of_space(),
    Column("source", Text, nullable=False),
    Column("query", HALFVEC, nullable=False),
    Column("k", Integer, nullable=False),
    Column("filter", JSONB),
    Column("max_distance", Double),
    Column("exclude", ARRAY(BigInteger), nullable=False),
    Column("recall", Double, nullable=False),
    Column("strategy", Text, nullable=False),
    Column("proven", Boolean, nullable=False),
    time_column("searched_at"),
    prefixes=["UNLOGGED"],
)

recall_checks = Table(
    "recall_checks",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _of_space(),
    Column("source", Text, nullable=False),
    Column("searched_at", DateTime(timezone=True), nullable=False),
    time_column("checked_at"),
    Column("k", Integer, nullable=False),
    Column("asked", Double, nullable=False),
    Column("plan", Text),
    Column("ef_search", Integer),
    Column("passing", Double),
    Column("expected", Integer),
    Column("recall", Double),
    Column("search_seconds", Double),
    Column("seconds", Double, nullable=False),
    Column("reason", Text),
    Index(None, "checked_at", "space_id"),
)

recall_adjustments = Table(
    "recall_adjustments",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _of_space(index=True),
    time_column("adjusted_at"),
    Column("adjusted_by", Text, nullable=False, server_default=text("SESSION_USER")),
    Column("from_depth", Double, nullable=False),
    Column("to_depth", Double, nullable=False),
    Column("reason", Text, nullable=False),
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
)

schema_revisions = Table(
    "schema_revisions",
    metadata,
    Column("revision", Text, primary_key=True),
    Column("serves", Text, nullable=False),
    time_column("applied_at"),
)
