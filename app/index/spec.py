"""The index choice of a space: `IndexSpec`, its text form and its JSON form.

Text:  a kind with its options, `hnsw(m=16,ef_construction=64)`; if it compresses, `pca(128,m=16)+rerank(50)`
JSON (`embedding_spaces.index_options`): the kind and the options that are not None, under their own names
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

from app.errors import InvalidInputError
from app.index.kinds import KINDS, Kind, Method
from app.types import Json

_EXAMPLES = [example for kind in KINDS.values() for example in kind.examples]
FORMS = f"{', '.join(_EXAMPLES[:-1])} or {_EXAMPLES[-1]}"
_STAGE = re.compile(r"([a-z]+)(?:\(([^()]*)\))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSpec:
    """How searches find the neighbours of a space: the name of a kind in `app.index.kinds`, and its options.

    If `rerank`, `ef_search` or `probes` is None, it follows from k and recall of each search.

    Raises:
        InvalidInputError: a value is missing, out of range, or does not apply to the kind.
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
        """Check the values, and set the defaults of the kind."""
        if self.kind not in KINDS:
            raise InvalidInputError(f'"{self.kind}" is not a kind of index; choose {FORMS}')
        values, compression = self.values, self.definition.compression
        if compression and compression.option not in values:
            raise InvalidInputError(f"a {self.kind} index needs {compression.option}, as in {FORMS}")
        ranges = self.definition.ranges(values)
        for name in sorted(values, key=lambda name: name in ranges):
            if name not in ranges:
                by = f" by {self.method}" if compression else ""
                raise InvalidInputError(f"{name} does not apply to an index of kind {self.kind}{by}; leave it out")
            least, most = ranges[name]
            if not (isinstance(values[name], int) and least <= values[name] <= most):
                raise InvalidInputError(
                    f"{name} {values[name]!r} of a {self.kind} index: choose a whole number from {least} to {most}"
                )
        if self.access is not None:
            for name, value in self.access.complete(values, self.definition.default_m).items():
                object.__setattr__(self, name, value)

    @property
    def definition(self) -> Kind:
        """The kind."""
        return KINDS[self.kind]

    @property
    def access(self) -> Method | None:
        """The access method of the index; None for exact search."""
        return self.definition.method(self.values)

    @property
    def method(self) -> str | None:
        """The name of the access method."""
        return None if self.access is None else self.access.name

    @property
    def fitted(self) -> bool:
        """Whether it needs a transform, fitted on the space's own embeddings."""
        return self.definition.compression is not None

    @property
    def values(self) -> dict[str, int]:
        """The options that are not None, by name."""
        return {name: value for name, value in asdict(self).items() if name != "kind" and value is not None}

    def for_rows(self, rows: int) -> Self:
        """Return the choice with the options of its index that follow from the number of rows."""
        derived: dict[str, Any] = {} if self.access is None else dict(self.access.for_rows(self.values, rows))
        return replace(self, **derived)

    def __str__(self) -> str:
        """Return the text form, which `parse_spec` takes."""
        values, compression = self.values, self.definition.compression
        first = [] if compression is None else [str(values[compression.option])]
        named = [f"{name}={values[name]}" for name in (self.access.options if self.access else ()) if name in values]
        head = f"{self.kind}({','.join([*first, *named])})" if first or named else self.kind
        return head if compression is None else f"{head}+rerank" + ("" if self.rerank is None else f"({self.rerank})")

    def options(self) -> Json:
        """Return the JSON form."""
        return {"kind": self.kind, **self.values}

    @classmethod
    def of(cls, options: Json) -> Self:
        """Return the choice of a JSON form. Keys that are not part of a choice are ignored."""
        known = {one.name for one in fields(cls)}
        return cls(**{"kind": "hnsw", **{name: value for name, value in options.items() if name in known}})


def parse_spec(text: str) -> IndexSpec:
    """Return the choice of a text form.

    Raises:
        InvalidInputError: the text is not a choice; the message names the wrong part and lists the forms.
    """
    (name, given), *rest = (_stage(part, text) for part in text.replace(" ", "").lower().split("+"))
    kind = KINDS.get(name)
    if kind is None or [stage for stage, _ in rest] not in ([], ["rerank"]) or (rest and kind.compression is None):
        raise _wrong(text, "no such combination")
    if kind.compression is None and "" in given:
        raise _wrong(text, f"{name} takes named values only")
    values = {option or (kind.compression.option if kind.compression else ""): value for option, value in given.items()}
    for _, depth in rest:
        if set(depth) - {""}:
            raise _wrong(text, "rerank takes a number only")
        values |= {"rerank": depth[""]} if depth else {}
    return _made(text, name, values)


def _stage(part: str, text: str) -> tuple[str, dict[str, int]]:
    """Return the name of a stage and its options; the one without a name has the key ''."""
    found = _STAGE.fullmatch(part)
    if not found:
        raise _wrong(text, f'"{part}" is not valid')
    values: dict[str, int] = {}
    for item in filter(None, (found[2] or "").split(",")):
        name, _, value = item.rpartition("=")
        if not value.isdecimal():
            raise _wrong(text, f'"{item}" is not a whole number')
        if name in values:
            raise _wrong(text, f"{name or 'a number'} is given twice")
        values[name] = int(value)
    return found[1], values


def _made(text: str, kind: str, values: Mapping[str, int]) -> IndexSpec:
    if unknown := set(values) - {one.name for one in fields(IndexSpec)}:
        raise _wrong(text, f"{', '.join(sorted(unknown))} is unknown")
    try:
        return IndexSpec(kind=kind, **values)
    except InvalidInputError as error:
        raise _wrong(text, str(error)) from error


def _wrong(text: str, what: str) -> InvalidInputError:
    return InvalidInputError(f'index choice "{text}": {what}. Write {FORMS}')
