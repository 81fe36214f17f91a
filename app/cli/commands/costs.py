"""`lookalike costs`: what images and searches cost."""

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import output, session
from app.cli.help import Json, examples
from app.errors import InvalidInputError

if TYPE_CHECKING:
    from app.monitoring.costs import Ledger, WorkerCost

EPILOG = examples(
    "lookalike costs                              seconds and bytes per image",
    "lookalike costs --hour 2.5 --gb-month 0.10   also prices per million images",
    "lookalike costs --hour 2.5 --gb-month 0.10 --server-hour 0.8 --server-cores 8",
    "lookalike costs --files --json",
    after="Workers record the seconds they spend on each stage. Idle time is not counted, though an idle machine costs "
    "the same. Stages run in parallel threads, so their sum can exceed the total. Without --server-hour, a search is "
    "priced as one core of the worker's machine. A gigabyte is 10⁹ bytes.",
)


def costs(
    hour: Annotated[
        float | None, typer.Option(metavar="PRICE", min=0, help="Price of a worker's machine per hour.")
    ] = None,
    gb_month: Annotated[
        float | None, typer.Option(metavar="PRICE", min=0, help="Price of storage per gigabyte and month.")
    ] = None,
    server_hour: Annotated[
        float | None, typer.Option(metavar="PRICE", min=0, help="Price of the database server per hour.")
    ] = None,
    server_cores: Annotated[int, typer.Option(min=1, help="Cores of the database server; a search uses one.")] = 1,
    days: Annotated[
        int, typer.Option(min=0, max=36_500, help="Number of past days to include. 0: today only, in UTC.")
    ] = 30,
    files: Annotated[
        bool, typer.Option("--files", help="Include the size of uploaded files; lists every file.")
    ] = False,
    json: Json = False,
) -> None:
    """Show worker seconds and bytes per image, and the price of a million images and searches."""
    from app.media import uploads
    from app.monitoring import costs as domain

    if (hour is None) != (gb_month is None):
        raise InvalidInputError("--hour and --gb-month go together: give both, or neither for seconds and bytes alone")
    prices = None
    if hour is not None and gb_month is not None:
        prices = domain.Prices(hour=hour, gb_month=gb_month, server_hour=server_hour, server_cores=server_cores)
    elif server_hour is not None:
        raise InvalidInputError("--server-hour needs --hour and --gb-month too")
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
        output.note(f"no worker has recorded its costs in the last {output.count(found.days, 'day')}")
        return
    stages = ("claim", "fetch", "lookup", "decode", "encode", "write")
    output.table(
        ["space", ">images", ">queries", ">per second", ">ms each", *(f">{stage}" for stage in stages), "device"],
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
    output.table(["space", "part", "kind", ">size", ">bytes per image"], rows)
    if found.bytes_per_image is not None:
        output.out(f"\n{found.bytes_per_image:,.0f} bytes per image, counting only the active space")


def _show_prices(found: "Ledger") -> None:
    search = found.search
    if search.seconds is not None:
        source = "live searches" if search.live else "test searches by stored images"
        output.out(f"{search.seconds * 1000:.2f} ms per search, from {search.searches:,} {source}")
    if found.price is None:
        return
    rows = [
        (f"a million images embedded in {one.space}", one.million_images, one.device) for one in found.price.embedding
    ]
    others = (
        ("a million images kept for a month", found.price.million_images_month, "storage"),
        ("a million searches", found.price.million_queries, "server"),
        ("a million query images embedded", found.price.million_query_images, "the cheapest device"),
    )
    rows += [(what, price, by) for what, price, by in others if price is not None]
    output.out("")
    output.table(["", ">price", "by"], [(what, f"{price:,.2f}", by) for what, price, by in rows])
