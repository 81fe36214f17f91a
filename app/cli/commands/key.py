"""`lookalike key`: API keys."""

import re
from typing import Annotated

import typer

from app.cli import output, session
from app.cli.help import Command, Group, Json, examples
from app.errors import InvalidInputError

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    help="Manage API keys. A key is shown only once, when you create it; the database stores its hash.",
    epilog=examples(
        "lookalike key create shop --scope search --expires 90d",
        "lookalike key ls",
        "lookalike key revoke shop",
        after="""
Scopes: search reads images and searches; write also adds, changes and deletes images; admin also operates. Clients
send the key as "Authorization: Bearer lk_…". A revoked key stops working within five seconds.
""",
    ),
)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@app.command("create", cls=Command)
def create(
    name: Annotated[str, typer.Argument(help="Name of the key; reusable once the key is revoked.")],
    scope: Annotated[
        str, typer.Option(metavar="SCOPE", help="search, write or admin; each includes the ones before it.")
    ],
    expires: Annotated[
        str | None, typer.Option(metavar="TIME", help="Lifetime: seconds, or 30m, 12h, 90d, 4w. Default: unlimited.")
    ] = None,
    json: Json = False,
) -> None:
    """Create a key and print it. It cannot be shown again."""
    from app.store import api_keys

    if scope not in api_keys.SCOPES:
        raise InvalidInputError(f"scope {scope!r} does not exist; choose {', '.join(api_keys.SCOPES)}")
    with session.connection() as conn:
        key, made = api_keys.create(conn, name, scope=scope, expires_seconds=_seconds(expires))
    if json:
        output.as_json({"key": key, "record": made})
        return
    output.out(key)
    until = f" until {made.expires_at.astimezone():%Y-%m-%d %H:%M}" if made.expires_at else ""
    output.note(f"scope {made.scope}{until}; save the key now, because it cannot be shown again")


@app.command("ls", cls=Command)
def ls(json: Json = False) -> None:
    """List the keys, each by its first characters."""
    from app.store import api_keys

    with session.connection() as conn:
        found = api_keys.ls(conn)
    if json:
        output.as_json(found)
    elif not found:
        output.note("no key yet: lookalike key create NAME --scope search")
    else:
        output.table(
            ["name", "key", "scope", "", "created", "expires", "last used"],
            [
                (
                    one.name,
                    f"{one.prefix}…",
                    one.scope,
                    "revoked" if one.revoked_at else "expired" if one.expired else "",
                    f"{one.created_at.astimezone():%Y-%m-%d %H:%M}",
                    f"{one.expires_at.astimezone():%Y-%m-%d %H:%M}" if one.expires_at else "never",
                    f"{one.last_used_at.astimezone():%Y-%m-%d %H:%M}" if one.last_used_at else "never",
                )
                for one in found
            ],
        )


@app.command("revoke", cls=Command)
def revoke(name: Annotated[str, typer.Argument(help="Name or first characters (lk_…) of the key.")]) -> None:
    """Revoke a key permanently."""
    from app.store import api_keys

    with session.connection() as conn:
        count = api_keys.revoke(conn, name.removesuffix("…"))
    output.out(f"{output.count(count, 'key')} revoked")


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,9})([smhdw]?)", text.strip())
    if found is None or int(found[1]) == 0:
        raise InvalidInputError(f"{text!r} is not a valid lifetime; write 3600, 30m, 12h, 90d or 4w")
    return float(int(found[1]) * _UNITS[found[2] or "s"])
