"""`lookalike maintain`: clears up what changes leave behind, where evidence asks for it."""

from typing import Annotated

import typer

from app.cli import output, session
from app.cli.help import Json, examples

EPILOG = examples(
    "lookalike maintain --dry-run          what changes have left, and what would be done about it",
    "lookalike maintain                    for cron, at night",
    after="""
A space with 10 % dead rows, or an index 1.5 times the size of a fresh one, gets a new index beside the old one, then
VACUUM, in that order. Where live searches are known to find too few (recall below its goal), 2 % and 1.1 times suffice.
Searches and writes go on. Idle workers do it too (LOOKALIKE_MAINTAIN).
""",
)


def maintain(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done, and why.")] = False,
    memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="maintenance_work_mem of rebuilds: 4GB. Else the server's.")
    ] = None,
    json: Json = False,
) -> None:
    """Rebuild and vacuum where changes have left too many dead rows or too large an index; say why."""
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
    said = {False: "nothing", True: "vacuum"}
    output.table(
        ["space", ">rows", ">dead", ">index", ">a fresh one", "would do" if dry_run else "done", "why"],
        [
            (
                one.space,
                f"{one.rows:,}",
                f"{one.dead:,}",
                output.size(one.index_bytes) if one.index else None,
                output.size(one.fresh_bytes),
                "rebuild, vacuum" if what.rebuild else said[what.vacuum],
                what.why,
            )
            for one, what in zip(found, decisions, strict=True)
        ],
    )
