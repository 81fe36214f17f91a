"""`lookalike migrate`."""

import re
from typing import Annotated

import typer

from app.cli import output, session
from app.cli.help import examples
from app.errors import InvalidInputError, LookalikeError, SchemaError

EPILOG = examples(
    "lookalike migrate                    to the newest revision; a second run finds nothing to do",
    "lookalike migrate --check            exit 0 when the database is there already, 1 when not",
    "lookalike migrate --plan             the SQL of what is to come, its locks, and how large what it touches is",
    "lookalike migrate --to 0001          up or down to a revision",
    "lookalike migrate --to base          down to nothing; refused while there are images",
    after="""
Each revision is one transaction. Searches and writes go on: where one would have to wait for half a second, the
revision is rolled back and tried again, for --wait seconds. A downgrade that would lose rows says which, and needs
--lose-data. "alembic upgrade head" does the same.
""",
)


def migrate(
    to: Annotated[
        str, typer.Option(metavar="REVISION", help="Revision to go to, up or down: a name, head, base or -1.")
    ] = "head",
    lose_data: Annotated[bool, typer.Option("--lose-data", help="Let a downgrade drop what it would lose.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 where it is needed.")] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Change nothing; print what would run, its locks and what it touches.")
    ] = False,
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Try as long to run without keeping others waiting.")
    ] = 60,
) -> None:
    """Create or update the schema in the database, and print from which revision to which."""
    with session.database() as url:
        before = _revision(url)
        if plan:
            _print_plan(url)
            return
        if check:
            output.out(_checked(url, before))
            return
        try:
            _go(url, to, before, lose_data=lose_data, wait=wait)
        except LookalikeError:
            if (stopped := _revision(url)) != before:
                output.say(f"{before or 'no revision'} → {stopped or 'no revision'}, and no further")
            raise
        after = _revision(url)
    output.out(
        f"{after or 'no revision'}, nothing to do"
        if before == after
        else f"{before or 'no revision'} → {after or 'no revision'}"
    )


def _go(url: str, to: str, current: str | None, *, lose_data: bool, wait: float) -> None:
    from app.db import schema

    if _is_down(to, current):
        schema.downgrade(url, to, lose_data=lose_data, patience=wait)
    else:
        schema.upgrade(url, to, patience=wait)


def _print_plan(url: str) -> None:
    """Print SQL, with all else as its comments."""
    from app import db
    from app.db import migration_plan

    with db.translated():
        plan = migration_plan.make(url)
    if not plan.steps:
        output.out(f"-- {plan.current}: nothing to do")
    for step in plan.steps:
        output.out(f"-- Revision {step.revision}: {step.title}")
        code = (
            f"of {step.serves} and later goes on working" if step.serves != step.revision else "of before does not fit"
        )
        output.out(f"-- Code {code} while it runs and after it; about {_seconds(plan.seconds(step))} here.")
        for name, mode in sorted(step.locks.items()):
            out = migration_plan.blocked_by(mode)
            output.out(f"-- Locks {name}{_of_size(plan.sizes.get(name))}: {_spelled(mode)}, keeps out {out}")
        for statement in step.statements:
            output.out("")
            for what, names in (("reads all of", statement.reads), ("rewrites", statement.rewrites)):
                for name in names:
                    output.out(f"-- {what} {name}{_of_size(plan.sizes.get(name))}")
            for name, mode in statement.locks.items():
                output.out(f"-- locks {name}: {_spelled(mode)}")
            output.out(statement.sql.rstrip(";") + ";")
        output.out("")


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 60 else str(output.age(value))


def _of_size(size: tuple[int, int] | None) -> str:
    return "" if size is None else f" ({output.count(size[0], 'row')}, {output.size(size[1])})"


def _spelled(mode: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", mode.removesuffix("Lock")).upper()


def _checked(url: str, current: str | None) -> str:
    from app import db
    from app.db import schema

    head = schema.head()
    if current == head:
        return f"{current} is the newest revision"
    if current is None or current in schema.revisions():
        raise SchemaError(
            f"the database is at {current or 'no revision'}, this code wants {head}; run: lookalike migrate"
        )
    with db.translated(), db.connect(url) as conn:
        schema.check(conn)
    return f"{current} is newer than this code ({head}), and serves it"


def _revision(url: str) -> str | None:
    import psycopg

    from app import db
    from app.db import schema

    # Not db.connect: that wants pgvector's types, which the first revision brings.
    with db.translated(), psycopg.connect(url, autocommit=True) as conn:
        return schema.current(conn)


def _is_down(to: str, current: str | None) -> bool:
    """Say whether `to` lies below the current revision; InvalidInputError where there is no such revision."""
    from app.db import schema

    if to == "base" or to.startswith("-"):
        return True
    if to == "head" or to.startswith("+"):
        return False
    known = schema.revisions()
    if to not in known:
        raise InvalidInputError(f"there is no revision {to}; there are: {', '.join(known)}, head, base")
    return current in known and known.index(to) < known.index(current)
