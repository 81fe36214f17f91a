"""Dead rows counted once; comments on objects; a search that decides before it executes; no index kind `staged`."""

from collections.abc import Sequence

from alembic import op

from migrations.sources import comment, concurrently, load, loaded_by, uncomment, use_schema_path

revision: str = "0009"
down_revision: str = "0008"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None
# The oldest code that works during and after this revision; see docs/how-to/upgrade.md.
serves: str = "0008"
# Rules of squawk that do not apply here, and why.
lint_excluded = {
    "ban-drop-function": "only functions of the schema call search_candidates, and it is created again at once",
}

# Kind `staged` ranked candidates by bits, then by their reduced form, then by embeddings. That took 13 % less time than
# without the reduced form, for three times the bytes. The bits go on alone. As many candidates as the reduced form
# ranked are ranked by their embeddings, so recall does not fall. The table of candidates keeps its reduced column, so
# nothing is rebuilt and nobody waits; revision 0008 searches such a space by both forms again.
NO_STAGES = """
DO $$
DECLARE
    moved record;
    text_form text;
BEGIN
    FOR moved IN
        UPDATE lookalike.embedding_spaces s
        SET index_options = s.index_options - '{dimensions,rerank,rerank_reduced}'::text[] || jsonb_strip_nulls(
            jsonb_build_object('kind', 'bits', 'rerank', coalesce(
                (s.index_options ->> 'rerank_reduced')::int,
                CASE WHEN (s.index_options ->> 'rerank')::int
                          > lookalike.search_depth(10, 0.99, (s.index_options ->> 'bits')::int, NULL)
                     THEN (s.index_options ->> 'rerank')::int END)))
        WHERE s.index_options ->> 'kind' = 'staged'
        RETURNING s.name, s.index_options AS options
    LOOP
        text_form := format('bits(%s)+rerank%s', concat_ws(',', moved.options ->> 'bits',
            'm=' || (moved.options ->> 'm'), 'ef_construction=' || (moved.options ->> 'ef_construction'),
            'ef_search=' || (moved.options ->> 'ef_search'), 'lists=' || (moved.options ->> 'lists'),
            'probes=' || (moved.options ->> 'probes')), '(' || (moved.options ->> 'rerank') || ')');
        RAISE WARNING 'index choice bits(...)+pca(...)+rerank(...) is gone: searches of space % use % now',
            moved.name, text_form
            USING HINT = format('lookalike index choose %s %L --refit frees what its reduced form takes.',
                                moved.name, text_form);
    END LOOP;
END
$$
"""

NEW: tuple[str, ...] = (
    "functions/dead_about.sql",
    "functions/check_search.sql",
    "functions/search_plan.sql",
)
CHANGED: tuple[str, ...] = (
    "functions/search_candidates.sql",
    "functions/search_run.sql",
    "functions/choose_index.sql",
    "functions/filter_condition.sql",
    "functions/rollback_space.sql",
    "functions/text_query.sql",
)
TABLES: tuple[str, ...] = tuple(path for path in loaded_by("0009") if path.startswith("tables/"))
SOURCES = NEW + CHANGED + TABLES


def upgrade() -> None:
    use_schema_path()
    load(revision, *SOURCES)
    op.execute(NO_STAGES)
    comment(revision, *(path for path in loaded_by(revision) if path not in SOURCES))


def downgrade() -> None:
    use_schema_path()
    load(down_revision, *CHANGED)
    below = loaded_by(down_revision)
    uncomment(revision, *below)
    comment(down_revision, *TABLES)
    # A search that began before this downgrade may still call the new functions, so they are dropped a moment later.
    with concurrently():
        op.execute("SELECT pg_sleep(1)")
        for path in reversed(NEW):
            op.execute(f"DROP ROUTINE IF EXISTS lookalike.{path.removeprefix('functions/').removesuffix('.sql')}")
