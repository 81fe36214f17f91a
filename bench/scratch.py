"""A scratch database for a bench."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.db import embedded, schema


@contextmanager
def scratch(url: str | None) -> Iterator[str]:
    """Yield the URL of a migrated database: `url`, or by default one on an embedded server that ends with the block."""
    if url:
        schema.upgrade(url)
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as home:
        Path(home).chmod(0o755)
        with embedded.running(Path(home)) as server:
            schema.upgrade(server.url)
            yield server.url
