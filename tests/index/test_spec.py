"""Index specs: text and JSON forms are equivalent, and the error for a wrong text names what is wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidInputError
from app.index.kinds import KINDS, Kind
from app.index.spec import IndexSpec, parse_spec


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("exact", IndexSpec(kind="exact")),
        ("hnsw", IndexSpec(kind="hnsw", m=16, ef_construction=64)),
        ("HNSW( m=24, ef_construction=100 )", IndexSpec(kind="hnsw", m=24, ef_construction=100)),
        ("ivfflat", IndexSpec(kind="ivfflat")),
        ("ivfflat(lists=141,probes=12)", IndexSpec(kind="ivfflat", lists=141, probes=12)),
        ("pca(128)", IndexSpec(kind="pca", dimensions=128, m=16)),
        ("pca(128,m=8)+rerank(50)", IndexSpec(kind="pca", dimensions=128, m=8, rerank=50)),
        ("bits(512,m=8)+rerank(100)", IndexSpec(kind="bits", bits=512, m=8, rerank=100)),
        ("bits(512,lists=9)+rerank", IndexSpec(kind="bits", bits=512, lists=9)),
    ],
)
def test_a_text_gives_its_spec(text: str, choice: IndexSpec) -> None:
    assert parse_spec(text) == choice


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", '"" is not valid'),
        ("flat", "no such combination"),
        ("hnsw(m=1)", "m 1 of a hnsw index: choose a whole number from 2 to 100"),
        ("hnsw(16)", "named values only"),
        ("hnsw(m=16,ef_construction=20)", "20 is less than twice m 16"),
        ("hnsw(m=x)", '"m=x" is not a whole number'),
        ("hnsw(m=8,m=9)", "m is given twice"),
        ("hnsw(lists=3)", "lists does not apply to"),
        ("hnsw+rerank(100)", "no such combination"),
        ("ivfflat(lists=10,probes=11)", "probes 11 of 10 lists"),
        ("exact(m=8)", "m does not apply to an index of kind exact"),
        ("bits(m=8)", "needs bits"),
        ("bits(512,m=8,lists=10)", "m does not apply to an index of kind bits by ivfflat"),
        ("bits(512,colour=8)", "colour is unknown"),
        ("pca(128)+bits(512)", "no such combination"),
        ("bits(512)+pca(128,rerank=400)+rerank(90)", "no such combination"),
        ("bits(512)+rerank(k=3)", "rerank takes a number only"),
    ],
)
def test_the_error_for_a_wrong_text_names_the_part_and_the_forms(text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match="Write exact, hnsw") as error:
        parse_spec(text)
    assert message in str(error.value)


def _number(least: int, most: int) -> st.SearchStrategy[int | None]:
    return st.none() | st.integers(least, most)


@given(
    st.sampled_from(list(KINDS)),
    st.fixed_dictionaries(
        {
            "m": _number(2, 100),
            "ef_construction": _number(4, 1000),
            "ef_search": _number(1, 1000),
            "lists": _number(1, 1000),
            "probes": _number(1, 1000),
            "bits": _number(8, 16384),
            "dimensions": _number(1, 4000),
            "rerank": _number(1, 10_000),
        }
    ),
    st.integers(0, 2**8 - 1),
)
def test_text_and_json_survive_a_round_trip(kind: str, numbers: dict[str, int | None], mask: int) -> None:
    given_numbers = {name: value for n, (name, value) in enumerate(numbers.items()) if mask >> n & 1}
    try:
        choice = IndexSpec(kind=kind, **given_numbers)
    except InvalidInputError:
        return
    assert parse_spec(str(choice)) == choice
    assert IndexSpec.of(choice.options()) == choice
    assert IndexSpec.of({**choice.options(), "transform": 3}) == choice


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_kind_answers_all_that_others_ask(kind: Kind) -> None:
    for fine in (False, True):
        assert [parse_spec(text).kind for text in kind.grid(128, 10_000, fine)] == [kind.name] * len(
            kind.grid(128, 10_000, fine)
        )
    for text in kind.examples:
        spec = parse_spec(text).for_rows(10_000)
        assert (spec.kind, spec.fitted) == (kind.name, kind.compression is not None)
        assert set(spec.values) <= set(kind.ranges(spec.values))
        if spec.access is not None:
            assert spec.access.with_options(spec.values)
            assert spec.access.index_bytes(10_000, 128, spec.values) > 0
            assert spec.access.build_bytes(10_000, 128, spec.values) > 0
