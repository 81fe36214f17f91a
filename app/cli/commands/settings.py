"""`lookalike settings`: the environment variables, listed from the declarations in app.config."""

from app.cli import output, session
from app.cli.help import Json, examples

EPILOG = examples("lookalike settings", "lookalike settings --json", "LOOKALIKE_BATCH_SIZE=64 lookalike worker")


def settings(json: Json = False) -> None:
    """List the environment variables with value, default and meaning."""
    from app.config import Settings

    current = session.settings()
    found = [
        {
            "name": "LOOKALIKE_" + name.upper(),
            "current": _plain(getattr(current, name)),
            "default": _plain(field.get_default(call_default_factory=True)),
            "set": name in current.model_fields_set,
            "help": field.description,
        }
        for name, field in Settings.model_fields.items()
    ]
    for one in found:
        if one["name"] in ("LOOKALIKE_DATABASE_URL", "LOOKALIKE_READ_DATABASE_URL"):
            one["current"] = _without_password(one["current"])
    if json:
        output.as_json(found)
        return
    output.table(
        ["variable", "now", "default", "meaning"],
        [(one["name"], one["current"] if one["set"] else "", one["default"], one["help"]) for one in found],
    )


def _plain(value: object) -> object:
    return value if value is None or isinstance(value, bool | int | float | str | list | tuple) else str(value)


def _without_password(url: object) -> str | None:
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    if not url:
        return None
    parts = conninfo_to_dict(str(url))
    if "password" in parts:
        parts["password"] = "…"  # noqa: S105 — a placeholder
    return make_conninfo("", **parts)
