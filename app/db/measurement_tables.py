"""The tables of schema `lookalike` that hold measurements of trade-off runs, and data versions."""

from sqlalchemy import (
    REAL,
    BigInteger,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from app.db.tables import metadata, time_column

measurement_runs = Table(
    "measurement_runs",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    time_column("started_at"),
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
    time_column("measured_at"),
    comment="What one index choice gave on a sample of a space; see lookalike tradeoffs.",
)

data_changes = Table(
    "data_changes",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("space_id", SmallInteger, nullable=False),
    Column("operation", Text, nullable=False),
    time_column("changed_at"),
    Column("changed_by", Text, nullable=False, server_default=text("SESSION_USER")),
    Index(None, "space_id"),
    comment="Each statement that changed the data of an audited space; their number is lookalike.data_version.",
)
