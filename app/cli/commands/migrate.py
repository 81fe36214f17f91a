"""`lookalike migrate`."""

import re
from typing import Annotated

import typer

from app.cli import output, session
from app.cli.help import examples
from app.errors import InvalidInputError, LookalikeError, SchemaError

EPILOG = examples(
    "lookalike migrate             upgrade to the newest revision",
    "lookalike migrate --check     exit 0 if the database is up to date, else 1",
    "lookalike migrate --plan      show the SQL, its locks and the sizes of tables",
    "lookalike migrate --to 0001   upgrade or downgrade to a revision",
    "lookalike migrate --to base   remove the schema; refused if there are images",
    after="""
Each revision is one transaction. Searches and writes continue: if they would have to wait for more than half a second,
the revision is rolled back and tried again, for up to --wait seconds. A downgrade that would lose rows lists them and
needs --lose-data. "alembic upgrade head" does the same.
""",
)


def migrate(
    to: Annotated[
        str, typer.Option(metavar="REVISION", help="Target revision, newer or older: a name, head, base or -1.")
    ] = "head",
    lose_data: Annotated[bool, typer.Option("--lose-data", help="Allow a downgrade to delete data.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 if a migration is needed.")] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Change nothing; print the SQL, its locks and the tables it touches.")
    ] = False,
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Maximum time to retry when other sessions hold locks.")
    ] = 60,
) -> None:
    """Create or upgrade the database schema."""
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
                output.note(f"{before or 'no revision'} → {stopped or 'no revision'}, and no further")
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
    """Print the plan as SQL, with locks and sizes in comments."""
    from app import db
    from app.db import migration_plan

    with db.translated():
        plan = migration_plan.make(url)
    if not plan.steps:
        output.out(f"-- {plan.current}: nothing to do")
    for step in plan.steps:
        output.out(f"-- Revision {step.revision}: {step.title}")
        seconds = _seconds(plan.seconds(step))
        output.out(f"-- Works with code of {step.serves} and later, during and after it; takes about {seconds} here.")
        for name, mode in sorted(step.locks.items()):
            blocked = migration_plan.blocked_by(mode)
            output.out(f"-- Locks {name}{_size_text(plan.sizes.get(name))}: {_spelled(mode)}, blocks {blocked}")
        for statement in step.statements:
            output.out("")
            for what, names in (("reads all of", statement.reads), ("rewrites", statement.rewrites)):
                for name in names:
                    output.out(f"-- {what} {name}{_size_text(plan.sizes.get(name))}")
            for name, mode in statement.locks.items():
                output.out(f"-- locks {name}: {_spelled(mode)}")
            output.out(statement.sql.rstrip(";") + ";")
        output.out("")


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 60 else str(output.age(value))


def _size_text(size: tuple[int, int] | None) -> str:
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
            f"the database is at {current or 'no revision'}, this code needs {head}; run: lookalike migrate"
        )
    with db.translated(), db.connect(url) as conn:
        schema.check(conn)
    return f"{current} is newer than this code ({head}), and compatible with it"


def _revision(url: str) -> str | None:
    import psycopg

    from app import db
    from app.db import schema

    # db.connect needs pgvector's types, which the first revision creates.
    with db.translated(), psycopg.connect(url, autocommit=True) as conn:
        return schema.current(conn)


def _is_down(to: str, current: str | None) -> bool:
    """Return whether `to` is older than the current revision.

    Raises:
        InvalidInputError: there is no such revision; the message lists the revisions.
    """
    from app.db import schema

    if to == "base" or to.startswith("-"):
        return True
    if to == "head" or to.startswith("+"):
        return False
    known = schema.revisions()
    if to not in known:
        raise InvalidInputError(f"there is no revision {to}; choose one of {', '.join(known)}, head, base")
    return current in known and known.index(to) < known.index(current)
