"""CSV manifests: types of columns, dialects, and errors with their line."""

from pathlib import Path

import pytest

from app.errors import InvalidInputError
from app.ingest import manifest


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "m.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def attributes(folder: Path, content: str, **options: list[str]) -> list[dict[str, object]]:
    return [row.attributes for row in manifest.read(written(folder, content), **options)]


def test_columns_become_file_caption_and_attributes(tmp_path: Path) -> None:
    rows = manifest.read(written(tmp_path, "File,Title,category,price\na.jpg,A dog,animals,3\n"))
    assert rows == [manifest.Row(2, "a.jpg", None, "A dog", {"category": "animals", "price": 3})]


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1", "-20"], [1, -20]),
        (["1", "2.5"], [1, 2.5]),
        (["1", "12e3"], ["1", "12e3"]),
        (["0.1", "0.1234567890123456789012345"], ["0.1", "0.1234567890123456789012345"]),
        (["1234567890123456789", "1234567890123456788"], [1234567890123456789, 1234567890123456788]),
        (["9007199254740993", "-1"], [9007199254740993, -1]),
        (["9" * 1001], ["9" * 1001]),
        (["2.50", "-0.0"], [2.5, -0.0]),
        (["+1", "1"], ["+1", "1"]),
        (["true", "FALSE"], [True, False]),
        (["1", "x"], ["1", "x"]),
        (["01", "2"], ["01", "2"]),
        (["1", "true"], ["1", "true"]),
        (["nan", "inf"], ["nan", "inf"]),
        (["1e999", "1"], ["1e999", "1"]),
        (["1234567890123456789012345678901234567890"], [1234567890123456789012345678901234567890]),
    ],
)
def test_a_type_is_guessed_from_the_whole_column(tmp_path: Path, cells: list[str], values: list[object]) -> None:
    content = "file,v\n" + "".join(f"{number}.jpg,{cell}\n" for number, cell in enumerate(cells))
    found = [row["v"] for row in attributes(tmp_path, content)]
    assert found == values
    assert list(map(type, found)) == list(map(type, values))


@pytest.mark.parametrize(
    ("cells", "warning"),
    [
        (["1", "n/a", "x"], "column v is text, because line 3 has 'n/a'"),
        (["1", "true"], "column v is text, because it mixes numbers and true/false"),
        (["x", "y"], ""),
        (["1", ""], ""),
    ],
)
def test_a_mixed_column_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, cells: list[str], warning: str
) -> None:
    attributes(tmp_path, "file,v\n" + "".join(f"a.jpg,{cell}\n" for cell in cells))
    assert [one.message.split(": ")[1] for one in caplog.records] == ([warning] if warning else [])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_unicode_text_of_spreadsheets(tmp_path: Path, encoding: str) -> None:
    content = ("" if encoding in ("utf-16", "utf-32") else "\ufeff") + "file\ttitle\nä.jpg\tTschüss €\n"
    (row,) = manifest.read(written(tmp_path, content.encode(encoding)))
    assert (row.file, row.caption) == ("ä.jpg", "Tschüss €")


def test_a_cell_may_be_long(tmp_path: Path) -> None:
    (row,) = manifest.read(written(tmp_path, "file,t\na," + "x" * 2_000_000 + "\n"))
    assert len(str(row.attributes["t"])) == 2_000_000


def test_an_empty_cell_is_skipped_and_does_not_make_a_column_text(tmp_path: Path) -> None:
    assert attributes(tmp_path, "file,price,note\na,3,\nb, ,x\nc\n") == [{"price": 3}, {"note": "x"}, {}]


def test_a_column_can_be_kept_as_text(tmp_path: Path) -> None:
    assert attributes(tmp_path, "file,zip\na,12345\n", text=["zip"]) == [{"zip": "12345"}]
    with pytest.raises(InvalidInputError, match='no column "zap" to keep as text; it has: file, zip'):
        attributes(tmp_path, "file,zip\na,12345\n", text=["zap"])


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_dialects_of_spreadsheets(tmp_path: Path, separator: str, bom: bytes, end: str) -> None:
    content = end.join([f"file{separator}title", f'"ä,;b.jpg"{separator}"two\nlines ""so"""', ""])
    rows = manifest.read(written(tmp_path, bom + content.encode()))
    assert rows == [manifest.Row(2, "ä,;b.jpg", None, 'two\nlines "so"', {})]


def test_columns_without_a_name_and_empty_lines_are_skipped(tmp_path: Path) -> None:
    rows = manifest.read(written(tmp_path, ",file,,a\n0,x.jpg,,1\n\n,,,\n2,y.jpg,,2\n"))
    assert [(row.line, row.file, row.attributes) for row in rows] == [(2, "x.jpg", {"a": 1}), (5, "y.jpg", {"a": 2})]


def test_a_row_is_named_by_its_first_line(tmp_path: Path) -> None:
    rows = manifest.read(written(tmp_path, 'file,title\na,"1\n2\n3"\nb,x,y\n,x\n'))
    assert [(row.line, row.error and row.error.split(";")[0]) for row in rows] == [
        (2, None),
        (5, "3 cells under 2 column names"),
        (6, "it names no file and no uri"),
    ]


def test_a_nul_is_an_error_of_its_row_alone(tmp_path: Path) -> None:
    rows = manifest.read(written(tmp_path, "file,title\na,x\0y\nb,z\n"))
    assert [bool(row.error) for row in rows] == [True, False]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"title,price\nx,1\n", 'line 1: no column "file" or "uri".*the columns are: title, price'),
        (b"file,a,a\n", 'line 1: the column "a" appears twice'),
        (b"file,t\na,b\nc,\xe9\n", "not UTF-8, line 3: byte 0xe9.*iconv"),
        (b'file,t\na,"b\n', "is not a CSV, line 2"),
        ("file,t\na,b".encode("utf-16") + b"x", "begins as UTF-16, but is damaged"),
    ],
)
def test_an_unusable_file_raises_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        manifest.read(written(tmp_path, content))


def test_a_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"m\.csv cannot be read: No such file or directory"):
        manifest.read(tmp_path / "m.csv")
