"""`lookalike costs`: what images and searches cost."""

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import output, session
from app.cli.help import Json, examples
from app.errors import InvalidInputError

if TYPE_CHECKING:
    from app.monitoring.costs import Ledger, WorkerCost

EPILOG = examples(
    "lookalike costs                                      seconds and bytes of an image",
    "lookalike costs --hour 2.5 --gb-month 0.10           and what a million come to",
    "lookalike costs --hour 2.5 --gb-month 0.10 --server-hour 0.8 --server-cores 8",
    "lookalike costs --files --json",
    after="Workers write down what they spend as they work. Seconds are those in which a worker had work: a machine "
    "that waits costs the same and does less. Stages run in several threads at once, so that they may add up to more. "
    "Without --server-hour a search is priced as one core of the worker's machine. A gigabyte is 10⁹ bytes.",
)


def costs(
    hour: Annotated[
        float | None, typer.Option(metavar="PRICE", min=0, help="Of an hour of a worker's machine.")
    ] = None,
    gb_month: Annotated[float | None, typer.Option(metavar="PRICE", min=0, help="Of a gigabyte for a month.")] = None,
    server_hour: Annotated[
        float | None, typer.Option(metavar="PRICE", min=0, help="Of an hour of the database server.")
    ] = None,
    server_cores: Annotated[int, typer.Option(min=1, help="Cores of that server, each of which serves a search.")] = 1,
    days: Annotated[int, typer.Option(min=0, max=36_500, help="How far back; 0: today, in UTC.")] = 30,
    files: Annotated[bool, typer.Option("--files", help="Add up uploaded files too: lists all of them.")] = False,
    json: Json = False,
) -> None:
    """Show seconds of workers and bytes for one image, and what a million images and searches come to."""
    from app.media import uploads
    from app.monitoring import costs as domain

    if (hour is None) != (gb_month is None):
        raise InvalidInputError("--hour and --gb-month go together: give both, or none for seconds and bytes alone")
    prices = None
    if hour is not None and gb_month is not None:
        prices = domain.Prices(hour=hour, gb_month=gb_month, server_hour=server_hour, server_cores=server_cores)
    elif server_hour is not None:
        raise InvalidInputError("--server-hour needs --hour and --gb-month beside it")
    with session.connection() as conn:
        opened = uploads.open_storage(session.settings()) if files else None
        found = domain.read(conn, days=days, prices=prices, storage=opened)
    if json:
        output.as_json(found)
        return
    _show_workers(found)
    _show_storage(found)
    _show_prices(found)


def _show_workers(found: "Ledger") -> None:
    if not found.workers:
        output.say(f"no worker has written down what it spent in the last {output.count(found.days, 'day')}")
        return
    stages = ("claim", "fetch", "lookup", "decode", "encode", "write")
    output.table(
        ["space", ">images", ">queries", ">a second", ">ms each", *(f">{stage}" for stage in stages), "device"],
        [
            (
                one.space,
                f"{one.images:,}",
                f"{one.queries:,}",
                None if one.per_second is None else f"{one.per_second:.1f}",
                _ms(one.seconds_each),
                *(_ms(value) for value in _stages(one)),
                one.device,
            )
            for one in found.workers
        ],
    )
    output.out("")


def _stages(one: "WorkerCost") -> tuple[float | None, ...]:
    return one.claim_each, one.fetch_each, one.lookup_each, one.decode_each, one.encode_each, one.write_each


def _ms(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds * 1000:.2f}"


def _show_storage(found: "Ledger") -> None:
    rows: list[tuple[object, ...]] = [
        (
            one.space or "all spaces",
            one.part,
            one.kind,
            output.size(one.bytes),
            None if one.bytes_per_image is None else f"{one.bytes_per_image:,.0f}",
        )
        for one in found.storage
    ]
    if found.files is not None:
        rows.append(("all spaces", "uploaded files", "files", output.size(found.files), None))
    output.table(["space", "part", "kind", ">size", ">bytes an image"], rows)
    if found.bytes_per_image is not None:
        output.out(f"\n{found.bytes_per_image:,.0f} bytes an image, other spaces than the active one left out")


def _show_prices(found: "Ledger") -> None:
    search = found.search
    if search.seconds is not None:
        source = "live searches" if search.live else "searches by stored images, made for this"
        output.out(f"{search.seconds * 1000:.2f} ms a search, by {search.searches:,} {source}")
    if found.price is None:
        return
    rows = [
        (f"a million images embedded in {one.space}", one.million_images, one.device) for one in found.price.embedding
    ]
    others = (
        ("a million images kept for a month", found.price.million_images_month, "storage"),
        ("a million searches", found.price.million_queries, "server"),
        ("a million pictures as queries, besides", found.price.million_query_images, "the cheapest device"),
    )
    rows += [(what, price, by) for what, price, by in others if price is not None]
    output.out("")
    output.table(["", ">price", "by"], [(what, f"{price:,.2f}", by) for what, price, by in rows])
