"""Command-line options that all benches share."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

BENCH = Path(__file__).parent
RESULTS = BENCH / "results"


def parse_options(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None, *, quick: Mapping[str, object]
) -> argparse.Namespace:
    """Add `--quick` to the parser, then parse.

    With `--quick`, the values of `quick` replace the defaults; options on the command line still win.
    """
    parser.add_argument("--quick", action="store_true", help="smoke test in seconds: its numbers mean nothing")
    if parser.parse_known_args(arguments)[0].quick:
        parser.set_defaults(**quick)
    return parser.parse_args(arguments)
