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
    Column("ended_at", DateTime(timezone=True)),
    Column("space", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("dimensions", Integer, nullable=False),
    Column("rows_total", BigInteger, nullable=False),
    Column("request", JSONB, nullable=False),
    Column("conditions", JSONB, nullable=False),
)

measurements = Table(
    "measurements",
    metadata,
    Column("run_id", BigInteger, ForeignKey("lookalike.measurement_runs.id", ondelete="CASCADE"), primary_key=True),
    Column("choice", Text, primary_key=True),
    Column("options", JSONB, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("k", Integer, nullable=False),
    Column("recall", Double, nullable=False),
    Column("recall_floor", Double, nullable=False),
    Column("label_precision", Double),
    Column("p50_ms", Double, nullable=False),
    Column("p95_ms", Double, nullable=False),
    Column("p99_ms", Double, nullable=False),
    Column("p95_ceiling_ms", Double, nullable=False),
    Column("qps", JSONB, nullable=False),
    Column("build_seconds", Double, nullable=False),
    Column("insert_ms", Double, nullable=False),
    Column("index_bytes", BigInteger, nullable=False),
    Column("table_bytes", BigInteger, nullable=False),
    Column("memory_bytes", BigInteger, nullable=False),
    Column("query_ms", ARRAY(REAL), nullable=False),
    Column("query_recalls", ARRAY(REAL), nullable=False),
    time_column("measured_at"),
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
)
