"""`python -m workers.benchmark`: measure how fast this device encodes under each setting, and recommend settings.

`lookalike bench worker` runs it.
"""

import argparse
import json
import logging
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import timm
import torch

from app.config import settings
from app.errors import ConfigurationError, LookalikeError, TransientImageError
from workers.batch_size import choose
from workers.device import allow_tf32, device_of, hardware_of, native_precisions
from workers.encoder import MIN_COSINE, Encoder, calibration_images
from workers.models import EmbeddingModel, load_model

_CPU_BATCHES, _GPU_BATCHES = (1, 2, 4, 8, 16, 32), (1, 8, 32, 64, 128, 256, 512)
_WAYS = ("plain", "compile", "cuda graphs")
# The share of the time for settings that need no compiling.
_PLAIN_SHARE = 0.6


@dataclass
class Rate:
    """One setting: images/s of each round, or the reason why there are none."""

    precision: str
    memory_format: str
    way: str
    batch: int
    rates: list[float] = field(default_factory=list)
    cosine: float | None = None
    trouble: str | None = None
    prepared_in: float | None = None  # seconds to compile or record

    @property
    def median(self) -> float:
        return statistics.median(self.rates) if self.rates else 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table and a recommendation; return the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        model_name, weights = options.model or settings().model, options.weights or settings().weights
        model = load_model(model_name, weights)
        found = measure(model, options)
        if not any(one.rates for one in found):
            reason = next((one.trouble for one in found if one.trouble), "the time was up; raise --limit")
            raise ConfigurationError(f"nothing could be measured: {reason}")
    except LookalikeError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    report = {
        "model": model_name,
        "device": hardware_of(device_of(options.device)),
        "versions": {"torch": torch.__version__, "timm": timm.__version__, "python": platform.python_version()},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "rounds": options.rounds,
        "rates": [asdict(one) for one in found],
        "recommended": recommend(found),
    }
    if options.json_file:
        Path(options.json_file).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1) if options.json else _table(report, found))  # noqa: T201
    return 0


def measure(model: EmbeddingModel, options: argparse.Namespace) -> list[Rate]:
    """Measure every setting in turns until the time is up; return the rates."""
    first = Encoder(model, device=options.device)
    on_cpu = first.device.type == "cpu"
    batches = options.batch or (
        [first.concurrency] if options.quick else list(_CPU_BATCHES if on_cpu else _GPU_BATCHES)
    )
    precisions = options.precision or ["fp32", *native_precisions(first.device)]
    found: list[Rate] = []
    measured: list[tuple[Encoder, list[Rate]]] = []
    for channels_last in (True,) if options.quick else (True, False):
        its_own = replace(model, module=deepcopy(model.module))  # so that encoders do not share a memory format
        for precision in precisions:
            encoder = Encoder(its_own, device=options.device, precision=precision, channels_last=channels_last)
            cosine = encoder.cosine_to_fp32(precision, calibration_images(encoder.input_shape))
            ways = [way for way in _WAYS if way == "plain" or (channels_last and not options.quick)]
            if on_cpu and "cuda graphs" in ways:
                ways.remove("cuda graphs")
            layout = "channels_last" if channels_last else "contiguous"
            rows = [Rate(precision, layout, way, batch, cosine=cosine) for way in ways for batch in batches]
            measured.append((encoder, rows))
            found += rows
    clock = _Clock(options.limit)
    for _ in range(options.rounds):
        for encoder, rows in measured:
            for row in rows:
                if row.way == "plain":
                    _round(encoder, row, options.seconds, clock, _PLAIN_SHARE)
    for encoder, rows in measured:
        for row in _compiled(rows):
            _measure_compiled(model, encoder, rows, row, options, clock)
    return [row for row in found if row.rates or row.trouble]


class _Clock:
    """The time limit of the benchmark. A measurement in progress is finished."""

    def __init__(self, seconds: float) -> None:
        self.began = time.monotonic()
        self.seconds = seconds

    def up(self, share: float = 1.0) -> bool:
        return time.monotonic() - self.began > share * self.seconds


def _compiled(rows: Sequence[Rate]) -> list[Rate]:
    """Return the rows to compile: the best batch only, because compiling is slow and serves one shape."""
    plain = [row for row in rows if row.way == "plain" and row.rates]
    if not plain:
        return []
    best = max(plain, key=lambda row: row.median).batch
    return [row for row in rows if row.way != "plain" and row.batch == best]


def _measure_compiled(
    model: EmbeddingModel,
    encoder: Encoder,
    rows: Sequence[Rate],
    row: Rate,
    options: argparse.Namespace,
    clock: _Clock,
) -> None:
    """Measure a compiled setting in turns with the plain one, because the load of the machine changes."""
    if clock.up():
        row.trouble = "not tried: the time was up; raise --limit"
        return
    _set_chunk(encoder, row.batch)
    began = time.monotonic()
    try:
        encoder.accelerate(compiled=row.way == "compile", cuda_graphs=row.way == "cuda graphs")
    except ConfigurationError as error:
        row.trouble = str(error)
        return
    row.prepared_in = time.monotonic() - began
    beside = Encoder(
        replace(model, module=deepcopy(model.module)),
        device=options.device,
        precision=encoder.precision,
        channels_last=encoder.channels_last,
    )
    plain = next(one for one in rows if one.way == "plain" and one.batch == row.batch)
    plain.rates.clear()
    for _ in range(options.rounds):
        _round(beside, plain, options.seconds, clock, always=True)
        _round(encoder, row, options.seconds, clock, always=True)
    encoder.accelerate()


def _set_chunk(encoder: Encoder, batch: int) -> None:
    encoder.chunk = max(1, batch // encoder.concurrency)


def _round(
    encoder: Encoder, row: Rate, seconds: float, clock: _Clock, share: float = 1.0, *, always: bool = False
) -> None:
    """Measure one round, unless the time is up."""
    if row.trouble or (clock.up(share) and not always):
        return
    _set_chunk(encoder, row.batch)
    allow_tf32(encoder.precision == "tf32")  # a setting of the process, which the encoders share here
    batch = np.resize(calibration_images(encoder.input_shape), (row.batch, *encoder.input_shape))
    try:
        encoder.encode(batch)
        done, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            encoder.encode(batch)
            done += len(batch)
        row.rates.append(done / (time.perf_counter() - began))
    except TransientImageError as error:
        row.trouble = str(error)


def recommend(found: Sequence[Rate]) -> dict[str, str]:
    """Return the fastest settings near fp32, with small batches because query images wait for one."""
    good = [row for row in found if row.rates and (row.precision == "fp32" or (row.cosine or 0) >= MIN_COSINE)]
    if not good:
        return {}
    best = max((row for row in good if row.memory_format == "channels_last"), key=lambda row: row.median)
    plain = [row for row in good if (row.precision, row.memory_format) == (best.precision, best.memory_format)]
    by_batch = {row.batch: row.median for row in plain if row.way == "plain"}
    fastest_plain = max(by_batch.values())
    # Each start and each new shape compile anew, so it must pay.
    pays = best.way != "plain" and best.median > 1.1 * fastest_plain
    advice = {
        "LOOKALIKE_PRECISION": best.precision,
        "LOOKALIKE_BATCH_SIZE": str(best.batch if pays else choose(by_batch)),
    }
    if pays:
        advice["LOOKALIKE_COMPILE" if best.way == "compile" else "LOOKALIKE_CUDA_GRAPHS"] = "true"
    return advice


def _table(report: "dict[str, object]", found: Sequence[Rate]) -> str:
    lines = [f"{report['model']} on {report['device']}", ""]
    lines.append(f"{'precision':<10}{'cosine':>8}  {'memory format':<15}{'way':<13}{'batch':>6}{'images/s':>10}")
    for row in sorted(found, key=lambda row: -row.median):
        cosine = "" if row.cosine is None else f"{row.cosine:.5f}"
        rate = f"{row.median:.1f}" if row.rates else f"- {row.trouble}"
        took = "" if row.prepared_in is None else f"  (prepared in {row.prepared_in:.0f} s)"
        lines.append(
            f"{row.precision:<10}{cosine:>8}  {row.memory_format:<15}{row.way:<13}{row.batch:>6}{rate:>10}{took}"
        )
    advice = report["recommended"]
    if isinstance(advice, dict) and advice:
        lines += ["", "recommended: " + " ".join(f"{name}={value}" for name, value in advice.items())]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lookalike bench worker",
        description="Measures how many images a second this device encodes, by precision, memory format, batch size, "
        "compiled or not, and recommends settings. No database is needed.",
    )
    parser.add_argument("--model", help="timm model (default: LOOKALIKE_MODEL)")
    parser.add_argument("--weights", help="its local weight file (default: LOOKALIKE_WEIGHTS)")
    parser.add_argument("--device", default=settings().device, help="torch device (default: LOOKALIKE_DEVICE)")
    parser.add_argument("--precision", action="append", choices=("fp32", "tf32", "bf16", "fp16"), help="only these")
    parser.add_argument("--batch", action="append", type=_positive, metavar="N", help="only these batch sizes")
    parser.add_argument("--rounds", type=_positive, default=3, help="rounds for each setting, in turns")
    parser.add_argument("--seconds", type=float, default=0.7, help="seconds for each round")
    parser.add_argument("--limit", type=float, default=120, help="seconds after which no new measurement begins")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--json-file", metavar="FILE", help="also write JSON to this file")
    parser.add_argument("--quick", action="store_true", help="one setting only, as a smoke test")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


if __name__ == "__main__":
    sys.exit(main())
