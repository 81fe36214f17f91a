"""`lookalike doctor`: checks of the installation, each with a remedy."""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import output, session
from app.cli.help import Json, examples
from app.errors import InvalidInputError, LookalikeError

if TYPE_CHECKING:
    from app.db import Connection
    from app.monitoring.status import SpaceStatus, Status


@dataclass(frozen=True, slots=True)
class Check:
    """One check: whether it passed, what was found, and the remedy."""

    name: str
    ok: bool
    found: str
    remedy: str = ""


EPILOG = examples(
    "lookalike doctor",
    "lookalike doctor --only workers   as a health check",
    after="Each failed check prints a remedy. Exit code 1 if any check fails.",
)
Only = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="NAME", help="Report only this check, for scripts and health checks. Repeatable."),
]


def doctor(json: Json = False, only: Only = None) -> None:
    """Check the installation: database, schema, settings, roles, space, index, workers, recall."""
    checks = list(_checks())
    if only:
        # If an earlier failure kept the check from running, report that failure.
        checks = [check for check in checks if check.name in only] or [check for check in checks if not check.ok]
        if not checks:
            raise InvalidInputError(f"there is no check {', '.join(only)}; lookalike doctor lists them")
    if json:
        output.as_json(checks)
    else:
        for one in checks:
            output.out(f"{'ok   ' if one.ok else 'WRONG'}  {one.name + ':':<12} {output.shown(one.found)}")
            if not one.ok and one.remedy:
                output.out(f"                    → {output.shown(one.remedy)}")
    if not all(one.ok for one in checks):
        raise typer.Exit(1)


def _checks() -> Iterator[Check]:
    yield _worker_extra()
    try:
        with session.database() as url:
            yield from _of_database(url)
    except LookalikeError as error:
        yield Check("database", ok=False, found=str(error), remedy="check LOOKALIKE_DATABASE_URL, or LOOKALIKE_HOME")


def _worker_extra() -> Check:
    present = importlib.util.find_spec("torch") is not None and importlib.util.find_spec("timm") is not None
    found = "torch and timm are installed" if present else "torch and timm are not installed; workers run elsewhere"
    return Check("worker", ok=True, found=found)


def _of_database(url: str) -> Iterator[Check]:
    import psycopg

    from app import db
    from app.db import schema
    from app.monitoring import status

    # db.connect would fail if pgvector is missing, which is one of the checks.
    with db.translated(), psycopg.connect(url, autocommit=True) as conn:
        yield Check("server", ok=True, found=f"PostgreSQL {_text(conn, 'SHOW server_version')}")
        yield _tried("pgvector", lambda: db.check_server(conn), lambda: f"pgvector {_pgvector(conn)}")
        revision = _tried("schema", lambda: schema.check(conn), lambda: _revision(schema.check(conn)))
        yield revision
        if revision.ok:
            yield _settings(conn)
            yield _roles(conn)
            yield from _of_status(status.read_status(conn))
            yield from _of_index(conn)
            yield from _standbys(conn)


def _of_index(conn: "Connection") -> Iterator[Check]:
    """Yield the live recall, and the possible causes of a low one."""
    from app.index import health
    from app.index.drift import measure_drift
    from app.index.health import drift_cause, read_evidence
    from app.monitoring import recall

    evidence = read_evidence(conn)
    if evidence is None:
        return
    now = recall.current_estimate(recall.estimates(conn), evidence.space)
    if now is not None and now.recall is not None and now.searches >= recall.FEWEST:
        warning = recall.warning_text(now)
        yield Check(
            "recall",
            ok=warning is None,
            found=warning
            or f"{now.recall:.3f} of the true neighbours ({now.low:.3f} or more), from {now.searches:,} searches",
            remedy="if no check below fails, search deeper: LOOKALIKE_RECALL_ADJUST lets workers do it, "
            f"lookalike recall adjust {evidence.search_depth * 1.5:g} does it now",
        )
    drifted = measure_drift(conn)
    found = [*health.causes(evidence), *([drift_cause(drifted)] if drifted else [])]
    for one in found:
        yield Check(one.name, ok=one.ok, found=one.found, remedy=one.remedy)


def _settings(conn: "Connection") -> Check:
    from psycopg.rows import scalar_row

    from app.db import sql

    with conn.cursor(row_factory=scalar_row) as cursor:
        wrong = cursor.execute(sql.query("settings_to_change")).fetchall()
    return Check(
        "settings",
        ok=not wrong,
        found=f"plain SQL may return too few rows: {', '.join(wrong)}" if wrong else "plain filtered SQL is complete",
        remedy="SELECT lookalike.tune_database(), as the database's owner or a superuser",
    )


def _roles(conn: "Connection") -> Check:
    from app.db import sql

    wrong = conn.execute(sql.query("roles_to_grant")).fetchall()
    missing = ", ".join(str(role) for role, _ in wrong)
    statements = dict.fromkeys(part for _, remedy in wrong for part in str(remedy).split("; "))
    return Check(
        "roles",
        ok=not wrong,
        found=f"missing privileges: {missing}" if wrong else "reader, writer, worker and api have their privileges",
        # All roles share one grant statement, which comes last.
        remedy="; ".join(sorted(statements, key=lambda one: one.startswith("SELECT")))
        + " (as a role that may create roles, and as the schema's owner)",
    )


def _standbys(conn: "Connection") -> Iterator[Check]:
    from app.db import replicas

    for one in replicas.check_standbys(session.settings(), conn):
        yield Check(
            "standby",
            ok=one.fit and one.advice is None,
            found=f"{one.host} answers searches" if one.fit else f"{one.host} is left out: {one.reason}",
            remedy=one.advice or "the primary answers instead; see docs/how-to/use-read-replicas.md",
        )


def _pgvector(conn: "object") -> str:
    return _text(conn, "SELECT extversion FROM pg_extension WHERE extname = 'vector'") or "not created yet"


def _text(conn: "object", query: str) -> str:
    row = conn.execute(query).fetchone()  # type: ignore[attr-defined]
    return str(row[0]) if row else ""


def _revision(found: str) -> str:
    from app.db import schema

    ahead = f", newer than this code ({schema.head()}), and compatible with it" if found != schema.head() else ""
    return f"revision {found}{ahead}"


def _tried(name: str, check: Callable[[], object], found: Callable[[], str]) -> Check:
    try:
        check()
    except LookalikeError as error:
        problem, _, remedy = str(error).partition("; ")
        return Check(name, ok=False, found=problem, remedy=remedy)
    return Check(name, ok=True, found=found())


def _of_status(now: "Status") -> Iterator[Check]:
    active = next((space for space in now.spaces if space.active), None)
    if active is None:
        yield Check("space", ok=False, found="no embedding space is active", remedy="start a worker: lookalike worker")
    else:
        yield Check("space", ok=True, found=f"{active.name}, {active.embedded:,} embedded, {active.queued:,} queued")
        yield _index(active)
    alive = sum(worker.alive for worker in now.workers)
    found = output.count(alive, "live worker") if alive else "no live worker: images and query images are not embedded"
    yield Check("workers", ok=alive > 0, found=found, remedy="start one: lookalike worker")
    if active is not None and active.failed:
        yield Check("failures", ok=False, found=f"{active.failed:,} images failed", remedy="lookalike failures")


def _index(space: "SpaceStatus") -> Check:
    if space.index_name is None:
        few = space.embedded < 10_000
        return Check(
            "index",
            ok=few,
            found="none: searches are exact" + (", which is fast for so few images" if few else ""),
            remedy="a worker builds it once its queue is empty; lookalike index rebuild builds it now",
        )
    return Check(
        "index",
        ok=bool(space.index_valid),
        found=space.index_name if space.index_valid else f"{space.index_name} is being built, or its build has failed",
        remedy="a worker builds it once its queue is empty; lookalike index rebuild builds it now",
    )
