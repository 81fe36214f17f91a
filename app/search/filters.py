"""Parse filters from JSON text; `lookalike.filter_condition` alone gives them a meaning."""

import json
import re
from decimal import Decimal
from typing import NoReturn

from app.errors import InvalidInputError

# What PostgreSQL's jsonb cannot store: NUL, and halves of a surrogate pair.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def parse(text: str) -> dict[str, object]:
    """Return the filter that this JSON text holds, to be passed to the database as jsonb.

    Raises:
        InvalidInputError: the text is not one JSON object (with the position if the JSON is broken); a key comes twice,
            because jsonb would silently keep the last; the filter holds NaN, Infinity, a number that Python would
            round, or text that PostgreSQL cannot store.
    """
    try:
        found = json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_integer
        )
    except json.JSONDecodeError as error:
        raise InvalidInputError(
            f"the filter is not JSON: {error.msg} at line {error.lineno} column {error.colno}"
        ) from error
    except RecursionError as error:
        raise InvalidInputError("the filter nests too deep; 32 levels are allowed") from error
    if not isinstance(found, dict):
        raise InvalidInputError(
            f'a filter is a JSON object such as {{"price": {{"$lt": 100}}}}, got {text.strip()[:60]}'
        )
    unstorable = _UNSTORABLE.search("".join(_strings(found)))
    if unstorable:
        raise InvalidInputError(f"the filter holds the character {unstorable[0]!a}, which PostgreSQL cannot store")
    return found


def _strings(value: object) -> list[str]:
    found: list[str] = []
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            found.append(one)
        elif isinstance(one, list):
            waiting.extend(one)
        elif isinstance(one, dict):
            found.extend(one)
            waiting.extend(one.values())
    return found


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise InvalidInputError(f'the filter has the key "{twice}" twice in one object; join both with $and')
    return made


def _constant(name: str) -> NoReturn:
    raise InvalidInputError(f"the filter holds {name}, which is not a JSON number")


def _float(digits: str) -> float:
    number = float(digits)
    if Decimal(repr(number)) != Decimal(digits):
        raise InvalidInputError(
            f"the filter's number {digits[:60]} has more digits, or is larger, than a double holds; "
            "pass it in SQL instead"
        )
    return number


def _integer(digits: str) -> int:
    if len(digits) > 1000:
        raise InvalidInputError(f"the filter's number {digits[:20]}... has {len(digits)} digits; 1000 are allowed")
    return int(digits)
