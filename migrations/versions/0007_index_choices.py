"""Index choices of a space: transforms, candidates for re-ranking."""

from collections.abc import Sequence

from alembic import op
from sqlalchemy import text

from app.errors import SchemaError
from migrations.sources import drop, load, refuse_loss, use_schema_path

revision: str = "0007"
down_revision: str = "0006"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None
# The oldest code that goes on working while this revision runs and after it; see docs/operations.md, Upgrades.
serves: str = "0007"
# What squawk would have otherwise, and why it need not be.
lint_excluded = {
    "adding-foreign-key-constraint": "from embedding_spaces, which has a row a space, to a table just made"
}

TABLES = """
CREATE TABLE lookalike.transforms (
    id smallint GENERATED ALWAYS AS IDENTITY CONSTRAINT transforms_pkey PRIMARY KEY,
    space_id smallint NOT NULL CONSTRAINT transforms_space_id_fkey
        REFERENCES lookalike.embedding_spaces ON DELETE CASCADE,
    bits integer,
    dimensions integer,
    fingerprint text NOT NULL,
    sample_size integer NOT NULL,
    seed bigint NOT NULL,
    explained_variance double precision NOT NULL,
    fitted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    filled_at timestamptz,
    CONSTRAINT transforms_form_check CHECK (bits IS NOT NULL OR dimensions IS NOT NULL)
);
CREATE INDEX transforms_space_id ON lookalike.transforms (space_id);
COMMENT ON TABLE lookalike.transforms IS
    'Rotations fitted on embeddings of a space: what candidates_<id> holds of each. Never changed, only fitted anew.';
COMMENT ON COLUMN lookalike.transforms.bits IS 'How many sign bits, along rotated axes';
COMMENT ON COLUMN lookalike.transforms.dimensions IS 'How many principal components';
COMMENT ON COLUMN lookalike.transforms.fingerprint IS 'Of its axes and shifts together';
COMMENT ON COLUMN lookalike.transforms.explained_variance IS 'Share of the sample''s variance within the axes';
COMMENT ON COLUMN lookalike.transforms.filled_at IS 'When all embeddings there had their candidates';

CREATE TABLE lookalike.transform_axes (
    transform_id smallint NOT NULL CONSTRAINT transform_axes_transform_id_fkey
        REFERENCES lookalike.transforms ON DELETE CASCADE,
    form text NOT NULL CONSTRAINT transform_axes_form_check CHECK (form IN ('bits', 'reduced')),
    n smallint NOT NULL,
    shift double precision NOT NULL,
    axis halfvec STORAGE PLAIN NOT NULL,
    CONSTRAINT transform_axes_pkey PRIMARY KEY (transform_id, form, n)
);
ALTER TABLE lookalike.embedding_spaces
    ADD COLUMN transform_id smallint CONSTRAINT embedding_spaces_transform_id_fkey REFERENCES lookalike.transforms,
    ADD COLUMN encoded_dimensions integer;
COMMENT ON COLUMN lookalike.embedding_spaces.transform_id IS
    'Reduces what the model encodes to what is stored; NULL: it is stored as encoded';
COMMENT ON COLUMN lookalike.embedding_spaces.encoded_dimensions IS 'Of what the model encodes, where it is reduced';

COMMENT ON TABLE lookalike.transform_axes IS 'The rows of the rotations; see lookalike.transformed.';
COMMENT ON COLUMN lookalike.transform_axes.shift IS 'The inner product of the axis with the mean of the sample';
"""

NEW: tuple[str, ...] = (
    "views/active_candidates.sql",
    "functions/transformed.sql",
    "functions/active_transform_id.sql",
    "functions/search_depth.sql",
    "functions/search_probes.sql",
    "functions/search_candidates.sql",
    "functions/near_candidates.sql",
    "functions/show_space.sql",
    "functions/choose_index.sql",
    "functions/create_candidates.sql",
    "functions/write_candidates.sql",
    "functions/sweep_candidates.sql",
    "functions/drop_transform.sql",
    "functions/as_stored.sql",
    "functions/derive_space.sql",
    "functions/adopt_embeddings.sql",
)
# Replaced by something of another type, so dropped first, both ways.
RETYPED = ("functions/search_scan.sql",)
# A view that grows columns at its end needs no drop upwards, and others stand on it.
GROWN = ("views/ann_indexes.sql",)
CHANGED: tuple[str, ...] = (
    *RETYPED,
    *GROWN,
    "views/space_status.sql",
    "functions/search_run.sql",
    "functions/near_pairs.sql",
    "functions/activate_space.sql",
    "functions/create_space.sql",
    "functions/drop_space.sql",
    "functions/space_missing.sql",
    "functions/finish_jobs.sql",
    "functions/answer_queries.sql",
    "functions/query_unit.sql",
)
SOURCES = NEW + CHANGED


def upgrade() -> None:
    use_schema_path()
    op.execute(TABLES)
    drop(*RETYPED)
    load(revision, *SOURCES)
    op.execute("SELECT lookalike.grant_privileges()")


def downgrade() -> None:
    use_schema_path()
    refuse_loss(transforms="transforms with their candidates")
    reduced = (
        op.get_bind()
        .scalars(text("SELECT name FROM lookalike.embedding_spaces WHERE transform_id IS NOT NULL ORDER BY id"))
        .all()
    )
    if reduced:
        raise SchemaError(
            f"the spaces {', '.join(reduced)} hold reduced embeddings, which the earlier revision cannot search; "
            "activate another space and drop these: lookalike space drop"
        )
    # Searches look at the embeddings again, and a worker builds the index of a space that had another kind.
    candidates = op.get_bind().scalars(text("SELECT 'candidates_' || id FROM lookalike.transforms ORDER BY id")).all()
    op.execute(
        "UPDATE lookalike.embedding_spaces SET index_options ="
        ' \'{"kind": "hnsw", "m": 16, "ef_construction": 64}\' WHERE index_options ->> \'kind\' <> \'hnsw\''
    )
    drop("views/active_candidates.sql", *RETYPED, *GROWN)
    for table in candidates:
        for event in ("inserted", "updated", "deleted", "emptied"):
            _drop_trigger(f"{table}_{event}")
        op.execute(f"DROP TABLE IF EXISTS lookalike.{table}")
    load(down_revision, *CHANGED)
    drop(*(path for path in reversed(NEW) if path.startswith("functions/")))
    op.execute("ALTER TABLE lookalike.embedding_spaces DROP COLUMN transform_id, DROP COLUMN encoded_dimensions")
    op.execute("DROP TABLE lookalike.transform_axes, lookalike.transforms")
    op.execute("SELECT lookalike.grant_privileges()")


def _drop_trigger(name: str) -> None:
    table = op.get_bind().scalar(
        text("SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname = :name"), {"name": name}
    )
    if table is not None:
        op.execute(f"DROP TRIGGER {name} ON {table}")
