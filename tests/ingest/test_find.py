"""Finding images by path, pattern or manifest: odd names, links, duplicates, base uris."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.errors import InvalidInputError
from app.ingest.find import Refusal, find_images

ODD_NAMES = [
    "a b.jpg",
    "it's.jpg",
    'say "so".jpg',
    "größe-東京-🐈.jpg",
    "new\nline.jpg",
    "[x]*?.jpg",
    "%41;,.jpg",
    "-k.jpg",
]


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def uris(*paths: object, **options: object) -> list[str]:
    return [one.uri for one in find_images([str(path) for path in paths], **options).candidates]  # type: ignore[arg-type]


def test_a_folder_is_walked_in_order_of_name_and_only_for_images(tmp_path: Path) -> None:
    wanted = [tmp_path / name for name in ("b.JPG", "z.webp", "a/1.png", "a/2/3.tiff")]
    touch(*wanted, *(tmp_path / name for name in ("readme.txt", ".hidden.jpg", "._b.jpg", ".cache/c.jpg", "none")))
    found = find_images([str(tmp_path)])
    assert [one.uri for one in found.candidates] == [str(path) for path in wanted]
    assert (found.skipped, found.refused) == (2, [])


def test_odd_names_are_found(tmp_path: Path) -> None:
    touch(*(tmp_path / name for name in ODD_NAMES))
    assert sorted(uris(tmp_path)) == sorted(str(tmp_path / name) for name in ODD_NAMES)
    assert [uris(tmp_path / name) for name in ODD_NAMES] == [[str(tmp_path / name)] for name in ODD_NAMES]


def test_a_name_that_is_not_utf8_is_refused_alone(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9.jpg")).write_bytes(b"x")
    found = find_images([str(tmp_path)])
    assert [one.uri for one in found.candidates] == [str(tmp_path / "a.jpg")]
    assert [one.reason for one in found.refused] == ["its name is not UTF-8, and the database stores text; rename it"]


def test_a_uri_too_long_for_the_index_is_refused_alone(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d" * 250] * 8)
    touch(tmp_path / "a.jpg", deep / "b.jpg")
    found = find_images([str(tmp_path)])
    assert [one.uri for one in found.candidates] == [str(tmp_path / "a.jpg")]
    assert "bytes; 2,000 can be stored" in found.refused[0].reason


def test_loops_of_links_end_and_each_folder_is_walked_once(tmp_path: Path) -> None:
    touch(tmp_path / "real" / "a.jpg")
    (tmp_path / "real" / "up").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to("real")
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "linked.jpg").symlink_to("real/a.jpg")
    assert uris(tmp_path) == [str(tmp_path / "linked.jpg"), str(tmp_path / "real" / "a.jpg")]


@contextmanager
def not_root() -> Iterator[None]:
    """Run the block as another user if the tests run as root, who may read everything."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_an_unreadable_folder_is_refused_alone() -> None:
    # Not in tmp_path, because only the user who runs the tests may read its parents.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        touch(folder / "a.jpg", folder / "closed" / "b.jpg")
        (folder / "closed").chmod(0)
        with not_root():
            found = find_images([name])
        (folder / "closed").chmod(0o700)
    assert len(found.candidates) == 1
    assert found.refused == [Refusal(str(folder / "closed"), "the folder cannot be read: Permission denied")]


def test_patterns_files_and_duplicates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(*(tmp_path / name for name in ("x/a.jpg", "x/b.png", "y/a.jpg", "y/raw.dat")))
    monkeypatch.chdir(tmp_path)
    assert uris("*/a.jpg") == [str(tmp_path / "x/a.jpg"), str(tmp_path / "y/a.jpg")]
    assert uris("**/*.png", "x", "./x/../x/b.png") == [str(tmp_path / "x/b.png"), str(tmp_path / "x/a.jpg")]
    assert uris("y/raw.dat") == [str(tmp_path / "y/raw.dat")]  # the user names it, so its ending does not matter


def test_a_base_uri_stands_for_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "in" / "a b#.jpg")
    monkeypatch.chdir(tmp_path)
    assert uris("in", base_uri="s3://bucket/p/") == ["s3://bucket/p/a b#.jpg"]
    assert uris("in", base_uri="https://host/p") == ["https://host/p/a%20b%23.jpg"]
    assert uris("in/a b#.jpg", base_uri="/mnt/p") == ["/mnt/p/a b#.jpg"]
    assert uris("*/*.jpg", base_uri="/mnt/p") == ["/mnt/p/in/a b#.jpg"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere", "there is no file or folder nowhere, and nothing matches it as a pattern"),
        ("*.jpg", r"there is no file or folder \*\.jpg"),
        ("empty", "no image in empty"),
        ("https://host/a.jpg", "is a URL; list URLs in the uri column of a CSV"),
    ],
)
def test_finding_nothing_raises(path: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInputError, match=message):
        find_images([path])


def test_rows_of_a_manifest(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg", tmp_path / "b c.jpg")
    manifest = tmp_path / "m.csv"
    manifest.write_text(
        "file,uri,title,n\n"
        "a.jpg,,A,1\n"
        "a.jpg,s3://bucket/a.jpg,B,2\n"
        ",https://host/x.jpg,C,3\n"
        f",file://{tmp_path}/b%20c.jpg,D,4\n"
        "gone.jpg,,E,5\n"
        "./a.jpg,,F,6\n"
        ",file://host/x.jpg,G,7\n"
        "a.jpg,relative.jpg,H,8\n"
    )
    found = find_images([], manifest=manifest)
    assert [(one.uri, one.path, one.caption, one.attributes) for one in found.candidates] == [
        (str(tmp_path / "a.jpg"), tmp_path / "a.jpg", "A", {"n": 1}),
        ("s3://bucket/a.jpg", tmp_path / "a.jpg", "B", {"n": 2}),
        ("https://host/x.jpg", None, "C", {"n": 3}),
        (f"file://{tmp_path}/b%20c.jpg", tmp_path / "b c.jpg", "D", {"n": 4}),
    ]
    assert [(one.origin, one.reason) for one in found.refused] == [
        (f"{manifest} line 6", f"there is no file gone.jpg in {tmp_path}"),
        (f"{manifest} line 7, ./a.jpg", f"the same image as {manifest} line 2, a.jpg"),
        (
            f"{manifest} line 8",
            "file://host/x.jpg is not a file URL of this machine; "
            "write file:///folder/name, with ? as %3F and # as %23",
        ),
        (f"{manifest} line 9", "its uri relative.jpg is neither a URL nor an absolute path"),
    ]


def test_a_file_in_a_folder_and_in_a_manifest_is_one_image(tmp_path: Path) -> None:
    touch(tmp_path / "p" / "a.jpg", tmp_path / "p" / "b.jpg")
    manifest = tmp_path / "elsewhere.csv"
    manifest.write_text("file,title\na.jpg,A\n")
    found = find_images([str(tmp_path / "p")], manifest=manifest)
    assert [(one.uri, one.caption) for one in found.candidates] == [
        (str(tmp_path / "p" / "a.jpg"), "A"),
        (str(tmp_path / "p" / "b.jpg"), None),
    ]
    assert uris(tmp_path / "p", manifest) == [one.uri for one in found.candidates]


def test_a_manifest_file_outside_its_folder_has_no_base_uri(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg", tmp_path / "m" / "b.jpg")
    manifest = tmp_path / "m" / "m.csv"
    manifest.write_text("file\n../a.jpg\nb.jpg\n")
    found = find_images([], manifest=manifest, base_uri="s3://b")
    assert [one.uri for one in found.candidates] == ["s3://b/b.jpg"]
    assert found.refused[0].reason == f"it lies outside {tmp_path / 'm'}, which --base-uri stands for"
