"""`lookalike migrate`. Imports `db`, `schema` and `cli`."""

from typing import Annotated

import typer

from app.cli import output, session
from app.cli.text import examples
from app.errors import InvalidInputError, LookalikeError, SchemaError

EPILOG = examples(
    "lookalike migrate                    to the newest revision; a second run finds nothing to do",
    "lookalike migrate --check            exit 0 when the database is there already, 1 when not",
    "lookalike migrate --to 0001          up or down to a revision",
    "lookalike migrate --to base          down to nothing; refused while there are images",
    after="""
Each revision is one transaction. A downgrade that would lose rows says which, and needs --lose-data. "alembic upgrade
head" does the same.
""",
)


def migrate(
    to: Annotated[
        str, typer.Option(metavar="REVISION", help="Revision to go to, up or down: a name, head, base or -1.")
    ] = "head",
    lose_data: Annotated[bool, typer.Option("--lose-data", help="Let a downgrade drop what it would lose.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 where it is needed.")] = False,
) -> None:
    """Create or update the schema in the database, and print from which revision to which."""
    from app import schema

    with session.database() as url:
        before = _revision(url)
        if check:
            if before != schema.head():
                raise SchemaError(
                    f"the database is at {before or 'no revision'}, this code wants {schema.head()}; "
                    "run: lookalike migrate"
                )
            output.out(f"{before} is the newest revision")
            return
        try:
            _go(url, to, before, lose_data=lose_data)
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


def _go(url: str, to: str, current: str | None, *, lose_data: bool) -> None:
    from app import schema

    if _is_down(to, current):
        schema.downgrade(url, to, lose_data=lose_data)
    else:
        schema.upgrade(url, to)


def _revision(url: str) -> str | None:
    import psycopg

    from app import db, schema

    # Not db.connect: that wants pgvector's types, which the first revision brings.
    with db.translated(), psycopg.connect(url, autocommit=True) as conn:
        return schema.current(conn)


def _is_down(to: str, current: str | None) -> bool:
    """Say whether `to` lies below the current revision; InvalidInputError where there is no such revision."""
    from app import schema

    if to == "base" or to.startswith("-"):
        return True
    if to == "head" or to.startswith("+"):
        return False
    known = schema.revisions()
    if to not in known:
        raise InvalidInputError(f"there is no revision {to}; there are: {', '.join(known)}, head, base")
    return current in known and known.index(to) < known.index(current)
