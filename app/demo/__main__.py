"""`make demo`: follow the sample gallery from a folder to SQL searches, with a worker as a separate process."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.syntax import Syntax
from rich.table import Table

from app import db
from app.config import Settings, settings
from app.db import Connection, schema
from app.demo import tour
from app.errors import LookalikeError
from app.index.build import build_index, list_indexes
from app.ingest.find import find_images
from app.ingest.register import read_progress, register_images, wait_until_searchable
from app.media import contact_sheet, limits
from app.store import spaces
from app.store.images import Image

REFERENCE = Path(__file__).parent / "reference.json"

console = Console(highlight=False)


def main() -> int:
    """Run the demo, and skip steps that an earlier run has done; return the exit status."""
    configured = settings()
    try:
        with db.database(configured) as url:
            _step("PostgreSQL", url)
            schema.upgrade(url)
            _step("schema", f"revision {schema.head()}")
            with db.connect(url, autocommit=True, application="lookalike demo") as conn:
                _embed(conn, url, configured)
                _index(conn)
                _show(conn, configured)
    except LookalikeError as error:
        Console(stderr=True, highlight=False).print(f"[red]error:[/] {error}", soft_wrap=True)
        return 1
    return 0


def _step(name: str, text: str) -> None:
    console.print(f"[bold]{name:<11}[/] {text}", soft_wrap=True)


def _progress() -> Progress:
    return Progress(
        TextColumn("[bold]{task.description:<11}[/]"),
        BarColumn(40),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def _embed(conn: Connection, url: str, configured: Settings) -> None:
    """Register the gallery, and let a worker embed the images that have no embedding."""
    found = find_images([], manifest=tour.MANIFEST)
    ids: list[int] = []
    counts = {"new": 0, "changed": 0, "unchanged": 0}
    with _progress() as progress:
        bar = progress.add_task("gallery", total=len(found.candidates))
        for batch in register_images(
            conn, found.candidates, max_bytes=configured.max_image_bytes, max_pixels=configured.max_image_pixels
        ):
            ids += batch.ids
            for outcome in counts:
                counts[outcome] += getattr(batch, outcome)
            progress.advance(bar, batch.size)
    _step("gallery", f"{len(ids)} images: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    began = time.monotonic()
    if not spaces.ls(conn) or read_progress(conn, ids).done < len(ids):
        with _worker(url), _progress() as progress:
            bar = progress.add_task("embedding", total=len(ids))
            done = wait_until_searchable(conn, ids, progress=lambda now: progress.update(bar, completed=now.done))
        seconds = time.monotonic() - began
        _step("embedding", f"{done.searchable} images in {seconds:.0f} s, including the start of the model")
    else:
        _step("embedding", "done by an earlier run")


@contextmanager
def _worker(url: str) -> Iterator[None]:
    """Run a worker until the queue is empty. If it fails, it logs the reason itself."""
    process = subprocess.Popen(
        [sys.executable, "-m", "workers", "--drain"],
        env={
            **os.environ,
            **limits.allowed_sources(settings()),
            "LOOKALIKE_DATABASE_URL": url,
            "LOOKALIKE_LOG_LEVEL": "WARNING",
        },
    )
    try:
        yield
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()


def _index(conn: Connection) -> None:
    space = spaces.active(conn)
    with _progress() as progress:
        bar = progress.add_task("index", total=100)
        built = build_index(conn, space, progress=lambda now: progress.update(bar, completed=100 * now.done))
    index = next(index for index in list_indexes(conn, space) if index.valid)
    _step("index", f"{index.name}, HNSW, {index.bytes / 2**20:.1f} MB{'' if built else ', built by an earlier run'}")


def _show(conn: Connection, configured: Settings) -> None:
    visits = [tour.visit(conn, stop) for stop in tour.STOPS]
    for visit in visits:
        _print_visit(visit)
    reference = json.loads(REFERENCE.read_text(encoding="utf-8"))
    console.print()
    for label in ("subcategory", "category"):
        measured = tour.label_precision(conn, label)
        _step("precision@5", f"{measured:.3f} by {label}, leave-one-out over the gallery, exact search")
        _step("", f"{reference[label]:.3f} by timm's own transform and forward pass in fp32, for comparison")
    picture = contact_sheet.draw(
        [tour.sheet_row(visit) for visit in visits],
        title="Lookalike",
        subtitle="Image retrieval inside PostgreSQL: the demo gallery, nearest neighbours by "
        f"{spaces.active(conn).model}",
    )
    path = configured.home.absolute() / "demo.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    _step("picture", str(path))
    _print_next_steps()


def _print_visit(visit: tour.Visit) -> None:
    condition = "" if visit.stop.filter is None else f" where {json.dumps(visit.stop.filter)}"
    console.print(f"\n[bold]like {visit.image.caption!r}[/] ({_kind(visit.image)}){escape(condition)}", soft_wrap=True)
    table = Table()
    for column in ("title", "category", "distance"):
        table.add_column(column, justify="right" if column == "distance" else "left")
    for neighbor in visit.answer.hits:
        table.add_row(neighbor.image.caption, _kind(neighbor.image), f"{neighbor.distance:.3f}")
    console.print(table)
    console.print(Syntax(tour.statement(visit), "sql", theme="ansi_light", background_color="default", word_wrap=True))


def _kind(image: Image) -> str:
    return f"{image.attributes['category']} / {image.attributes['subcategory']}"


def _print_next_steps() -> None:
    command = Path(sys.executable).with_name("lookalike")
    shown = command.relative_to(Path.cwd()) if command.is_relative_to(Path.cwd()) else command
    console.print("\nNext steps:")
    for arguments, purpose in (
        ("psql", "open psql, to paste the SQL above"),
        ("up", "start worker, API and page together, on http://127.0.0.1:8000"),
        ("ingest FOLDER --wait", "index your own folder (while `up` runs)"),
        ("tradeoffs --quick", "measure index choices on these images, to pick one with tune"),
        ("search PICTURE.jpg", "search by your own picture (while `up` runs)"),
    ):
        console.print(f"  {shown} {arguments:<22} {purpose}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
