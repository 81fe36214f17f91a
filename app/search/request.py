"""A search as users ask for it, and which of its options go together.

HTTP and the command line differ in how they read a request and show what was found; what it means is here, once.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from app.search.modes import MODES, Mode
from app.types import Embedding, Json

MAX_K = 10_000

# What gives a search its embedding; an uploaded image is `query`, as a vector is.
SUBJECTS = frozenset({"query", "image_id", "like"})
# With no more than these, lookalike.search answers by one statement.
PLAIN = frozenset({"query", "image_id", "recall", "strategy"})
_SINGLE = ("query", "image_id", "max_distance", "recall", "strategy")


@dataclass(frozen=True, slots=True)
class Request:
    """A search by an embedding, a stored image, examples or words; options as in the SQL functions.

    `mode` is the option of a mode in `MODES`, `value` its value. `strategy` is that of lookalike.search: "exact" or
    "index" force one. `in_space` is the id of the space that the given embeddings were made in, if that is known:
    another one may be active by the time of the search.
    """

    query: Embedding | None = None
    image_id: int | None = None
    like: Sequence[int] = ()
    unlike: Sequence[int] = ()
    like_embeddings: Sequence[Embedding] = ()
    unlike_embeddings: Sequence[Embedding] = ()
    mode: str | None = None
    value: str | float | None = None
    k: int = 10
    filter: Json | None = None
    max_distance: float | None = None
    exclude: Sequence[int] = ()
    recall: float | None = None
    strategy: str | None = None
    explain: bool = False
    in_space: int | None = None

    @property
    def shows(self) -> tuple[str, ...]:
        """The fields of a hit that only this mode has."""
        return MODES[self.mode].shows if self.mode else ()

    @property
    def given(self) -> set[str]:
        """The names of the options that decide the kind of search."""
        given = {name for name in _SINGLE if getattr(self, name) is not None}
        given |= {self.mode} if self.mode else set()
        given |= {"like"} if self.like or self.like_embeddings else set()
        return given | ({"unlike"} if self.unlike or self.unlike_embeddings else set())

    @property
    def left_out(self) -> list[int]:
        """The ids that the answer leaves out: those excluded, and those searched by, which would find themselves."""
        stored = [] if self.image_id is None else [self.image_id]
        return [*self.exclude, *stored, *self.like, *self.unlike]


def chosen_mode(options: Mapping[str, str | float | None]) -> tuple[str | None, str | float | None]:
    """Return the mode that these options choose and its value, or (None, None)."""
    return next(((name, options[name]) for name in MODES if options.get(name) is not None), (None, None))


def conflicting_options(given: Collection[str], called: Callable[[str], str] = str) -> str | None:
    """Return why these options do not make one search, or None.

    `given` are names of Request's fields and of modes (like and unlike for embeddings too); `called` returns the name
    that the user knows an option by.
    """
    modes = [mode for mode in MODES.values() if mode.option in given]
    for first, second in combinations(modes, 2):
        return f"{called(first.option)} and {called(second.option)} cannot be combined: choose one"
    if modes and (problem := _conflict_with_mode(modes[0], given, called)):
        return problem
    if {"query", "image_id"} <= set(given):
        return (
            f"{called('query')} and {called('image_id')} cannot be combined: choose one; the other can be in"
            f" {called('like')}"
        )
    return None if SUBJECTS.intersection(given) else _without_subject(modes, given, called)


def _conflict_with_mode(mode: Mode, given: Collection[str], called: Callable[[str], str]) -> str | None:
    if "max_distance" in given and "max_distance" not in mode.accepts:
        return f"{called(mode.option)} and {called('max_distance')} cannot be combined: choose one"
    if "strategy" in given:
        strategy = called("strategy")
        return f"{called(mode.option)} and {strategy} cannot be combined; {called('recall')} 1 is exact with both"
    return None


def _without_subject(modes: Sequence[Mode], given: Collection[str], called: Callable[[str], str]) -> str | None:
    # One name may stand for two of them.
    positive = ", ".join(dict.fromkeys(called(name) for name in ("image_id", "query", "like")))
    if "unlike" in given:
        return f"{called('unlike')} needs a positive example beside it: one of {positive}"
    if not (modes and modes[0].without_subject):
        words = ", ".join(called(mode.option) for mode in MODES.values() if mode.without_subject)
        return f"nothing to search for: give one of {positive}, {words}"
    if "recall" in given:
        return f"{called(modes[0].option)} alone and {called('recall')} cannot be combined: words are searched exactly"
    return None
