"""What kind of index a space has: `IndexChoice`, its text form and its JSON form.

Text:  exact | hnsw(m=16,ef_construction=64,ef_search=200) | ivfflat(lists=141,probes=12) | pca(128,m=16)+rerank(50)
       bits(512,m=8)+rerank(100) | bits(512,lists=1000,probes=30)+rerank(200)
JSON (`embedding_spaces.index_options`): the fields below that are not None, under their own names.
"""

import math
import re
from dataclasses import asdict, dataclass, fields
from typing import Self

from app.errors import InvalidInputError
from app.types import Json

KINDS = ("exact", "hnsw", "ivfflat", "pca", "bits")
FORMS = (
    "exact, hnsw(m=16,ef_construction=64), ivfflat(lists=141,probes=12), pca(128,m=16)+rerank(50), "
    "bits(512,m=8)+rerank(100) or bits(512,lists=1000,probes=30)+rerank(200)"
)

# Least and greatest value of each number.
_RANGES = {
    "m": (2, 100),
    "ef_construction": (4, 1000),
    "ef_search": (1, 1000),
    "lists": (1, 32768),
    "probes": (1, 32768),
    "bits": (8, 16384),
    "dimensions": (1, 4000),
    "rerank": (1, 10_000),
}
_METHOD = ("m", "ef_construction", "ef_search", "lists", "probes")
_FITTED = {"pca": ("dimensions",), "bits": ("bits",)}
_DEFAULT_M = {"hnsw": 16, "pca": 16, "bits": 8}
_STAGE = re.compile(r"([a-z]+)(?:\(([^()]*)\))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSpec:
    """How searches find the neighbours of a space.

    `kind`: exact (no index), hnsw and ivfflat (an index on the embeddings), or an index on candidates that are ranked
    again by the embeddings: pca (`dimensions` of their principal axes), bits (signs of `bits` rotated axes). `lists`
    makes the index an IVFFlat, else it is HNSW. `rerank` candidates are ranked by the embedding. These,
    `ef_search` and `probes` follow from k and recall of each search where they are None.
    InvalidInputError for a value out of range, or of another kind.
    """

    kind: str
    m: int | None = None
    ef_construction: int | None = None
    ef_search: int | None = None
    lists: int | None = None
    probes: int | None = None
    bits: int | None = None
    dimensions: int | None = None
    rerank: int | None = None

    def __post_init__(self) -> None:
        """Check the values, and set those that the kind has a default for."""
        if self.kind not in KINDS:
            raise InvalidInputError(f'"{self.kind}" is no kind of index; choose {FORMS}')
        self._check_numbers()
        if self.method == "hnsw":
            object.__setattr__(self, "m", self.m or _DEFAULT_M[self.kind])
            object.__setattr__(self, "ef_construction", self.ef_construction or max(64, 2 * (self.m or 0)))
            if (self.ef_construction or 0) < 2 * (self.m or 0):
                raise InvalidInputError(f"ef_construction {self.ef_construction} is less than twice m {self.m}")
        if self.probes is not None and self.lists is not None and self.probes > self.lists:
            raise InvalidInputError(f"probes {self.probes} of {self.lists} lists: choose no more than lists")

    def _check_numbers(self) -> None:
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int) and least <= value <= most):
                raise InvalidInputError(f"{name} {value!r} of a {self.kind} index: a whole number of {least} to {most}")
        for name in _FITTED.get(self.kind, ()):
            if getattr(self, name) is None:
                raise InvalidInputError(f"a {self.kind} index needs {name}, as in {FORMS}")
        for name in sorted(self._foreign()):
            if getattr(self, name) is not None:
                raise InvalidInputError(f"{name} says nothing of {self._described()}; leave it out")

    @property
    def method(self) -> str | None:
        """The access method of the index, hnsw or ivfflat; None for exact search."""
        if not self.fitted:
            return None if self.kind == "exact" else self.kind
        return "hnsw" if self.lists is None else "ivfflat"

    @property
    def fitted(self) -> bool:
        """Whether it needs a transform, fitted on the space's own embeddings."""
        return self.kind in _FITTED

    def lists_for(self, rows: int) -> int:
        """Return `lists`, or where it is left open what suits this many rows: their square root."""
        return self.lists or max(1, min(round(math.sqrt(rows)), _RANGES["lists"][1]))

    def _foreign(self) -> set[str]:
        own = {"hnsw": {"m", "ef_construction", "ef_search"}, "ivfflat": {"lists", "probes"}}.get(
            self.method or "", set()
        )
        own |= set(_FITTED.get(self.kind, ()))
        own |= {"rerank"} if self.fitted else set()
        return set(_RANGES) - own

    def _described(self) -> str:
        return f"an index of kind {self.kind}" + (f" by {self.method}" if self.fitted else "")

    def __str__(self) -> str:
        """Return the text form, which `parse` takes."""
        method = [f"{name}={value}" for name in _METHOD if (value := getattr(self, name)) is not None]
        if not self.fitted:
            return self.kind + (f"({','.join(method)})" if method else "")
        first = str(self.dimensions if self.kind == "pca" else self.bits)
        stages = [f"{'pca' if self.kind == 'pca' else 'bits'}({','.join([first, *method])})"]
        return "+".join([*stages, "rerank" if self.rerank is None else f"rerank({self.rerank})"])

    def options(self) -> Json:
        """Return the JSON form."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def of(cls, options: Json) -> Self:
        """Return the choice of a JSON form; what it holds beyond a choice is passed over."""
        known = {one.name for one in fields(cls)}
        return cls(**{"kind": "hnsw", **{name: value for name, value in options.items() if name in known}})


def parse_spec(text: str) -> IndexSpec:
    """Return the choice that a text form says; InvalidInputError names the part that is wrong."""
    stages = [_stage(part, text) for part in text.replace(" ", "").lower().split("+")]
    names = [name for name, _ in stages]
    if names in (["exact"], ["hnsw"], ["ivfflat"]):
        kind, (name, given) = names[0], stages[0]
        if "" in given:
            raise _wrong(text, f"{name} takes named values only")
        return _made(text, kind, given)
    last = {} if names[-1] != "rerank" else stages.pop()[1]
    if set(last) - {""}:
        raise _wrong(text, "rerank takes a number only")
    depth = {"rerank": last[""]} if last else {}
    first = stages[0][1] if stages else {}
    if [name for name, _ in stages] in (["pca"], ["bits"]):
        kind = stages[0][0]
        size = {"pca": "dimensions", "bits": "bits"}[kind]
        return _made(text, kind, {**_renamed(first, size), **depth})
    raise _wrong(text, "no such combination")


def _stage(part: str, text: str) -> tuple[str, dict[str, int]]:
    found = _STAGE.fullmatch(part)
    if not found:
        raise _wrong(text, f'"{part}" cannot be read')
    values: dict[str, int] = {}
    for item in filter(None, (found[2] or "").split(",")):
        name, _, value = item.rpartition("=")
        if not value.isdecimal():
            raise _wrong(text, f'"{item}" is no whole number')
        if name in values:
            raise _wrong(text, f"{name or 'a number'} is given twice")
        values[name] = int(value)
    return found[1], values


def _renamed(given: dict[str, int], size: str) -> dict[str, int]:
    return {name or size: value for name, value in given.items()}


def _made(text: str, kind: str, values: dict[str, int]) -> IndexSpec:
    if unknown := set(values) - set(_RANGES):
        raise _wrong(text, f"{', '.join(sorted(unknown))} is unknown")
    try:
        return IndexSpec(kind=kind, **values)
    except InvalidInputError as error:
        raise _wrong(text, str(error)) from error


def _wrong(text: str, what: str) -> InvalidInputError:
    return InvalidInputError(f'index choice "{text}": {what}. Write {FORMS}')
