"""`lookalike maintain`: rebuild and vacuum spaces with many dead rows or an oversized index."""

from typing import Annotated

import typer

from app.cli import output, session
from app.cli.help import Json, examples

EPILOG = examples(
    "lookalike maintain --dry-run   show what would be done, and why",
    "lookalike maintain             for cron, at night",
    after="""
A space is rebuilt and then vacuumed if 10 % of its rows are dead, or if its index is 1.5 times the size of a fresh one.
If the recall of live searches is below its goal, 2 % or 1.1 times is enough. Searches and writes continue. Idle workers
do the same (LOOKALIKE_MAINTAIN).
""",
)


def maintain(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing; report dead rows, sizes and what would be done.")
    ] = False,
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="maintenance_work_mem of rebuilds, such as 4GB. Default: the server's."),
    ] = None,
    json: Json = False,
) -> None:
    """Rebuild and vacuum spaces with too many dead rows or too large an index."""
    from app.index import maintenance
    from app.index.resources import Resources, parse_memory

    resources = Resources(memory=None if memory is None else parse_memory(memory))
    with session.connection() as conn:
        found = maintenance.read_churn(conn)
        decisions = [maintenance.decide(one) for one in found]
        if not dry_run:
            for decision in decisions:
                maintenance.maintain(conn, decision, resources=resources)
    if json:
        output.as_json([{"evidence": one, "decision": what} for one, what in zip(found, decisions, strict=True)])
        return
    output.table(
        ["space", ">rows", ">dead", ">index", ">if rebuilt", "would do" if dry_run else "done", "why"],
        [
            (
                one.space,
                f"{one.rows:,}",
                f"{one.dead:,}",
                output.size(one.index_bytes) if one.index else None,
                output.size(one.fresh_bytes),
                "rebuild, vacuum" if what.rebuild else "vacuum" if what.vacuum else "nothing",
                what.why,
            )
            for one, what in zip(found, decisions, strict=True)
        ],
    )
