"""Registration on a real database: counts, idempotence, refusals, interruption, waiting."""

import hashlib
import os
import threading
from pathlib import Path

import psycopg
import pytest

from app import db
from app.errors import ImageError, NoWorkerError
from app.ingest.find import Candidate, Refusal, find_images
from app.ingest.register import Progress, register_images, wait_until_searchable
from app.media.header import Header, read_header
from tests.support.ingest import embed, make_space, picture

LIMITS = {"max_bytes": 100_000, "max_pixels": 1_000_000}
FORMATS = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "GIF": "image/gif",
    "WEBP": "image/webp",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
    "AVIF": "image/avif",
    "JPEG2000": "image/jp2",
    "PPM": "image/x-portable-anymap",
}


def photos(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).write_bytes(picture("#" + hashlib.sha256(name.encode()).hexdigest()[:6]))
    return folder


def run(conn: db.Connection, candidates: list[Candidate], **options: int) -> dict[str, object]:
    conn.autocommit = True
    batches = list(register_images(conn, candidates, **{**LIMITS, **options}))
    return {
        "new": sum(one.new for one in batches),
        "changed": sum(one.changed for one in batches),
        "unchanged": sum(one.unchanged for one in batches),
        "ids": [id_ for one in batches for id_ in one.ids],
        "refused": [one for batch in batches for one in batch.refused],
    }


def counts(result: dict[str, object]) -> tuple[object, object, object]:
    return result["new"], result["changed"], result["unchanged"]


def found(*paths: Path, **options: object) -> list[Candidate]:
    return find_images([str(path) for path in paths], **options).candidates  # type: ignore[arg-type]


def test_a_second_run_finds_all_unchanged_and_writes_nothing(tmp_path: Path, conn: db.Connection) -> None:
    candidates = found(photos(tmp_path, "a.png", "b c.png", "ü.png"))
    first = run(conn, candidates)
    assert counts(first) == (3, 0, 0)
    rows = conn.execute("SELECT xmin, * FROM lookalike.images ORDER BY id").fetchall()
    second = run(conn, candidates)
    assert counts(second) == (0, 0, 3)
    assert second["ids"] == first["ids"]
    assert conn.execute("SELECT xmin, * FROM lookalike.images ORDER BY id").fetchall() == rows


def test_hash_header_and_metadata_of_a_file_are_stored(tmp_path: Path, conn: db.Connection) -> None:
    content = picture(size=(8, 5), form="JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0")
    (tmp_path / "a.jpg").write_bytes(content)
    run(conn, [Candidate("u", tmp_path / "a.jpg", "o", "A dog", {"n": 1})])
    row = conn.execute(
        "SELECT uri, sha256, media_type, width, height, caption, attributes FROM lookalike.images"
    ).fetchone()
    assert row == ("u", hashlib.sha256(content).digest(), "image/jpeg", 5, 8, "A dog", {"n": 1})


def test_other_bytes_are_embedded_again_and_other_metadata_is_not(tmp_path: Path, conn: db.Connection) -> None:
    conn.autocommit = True
    space = make_space(conn)
    photos(tmp_path, "a.png", "b.png", "c.png")
    ids = run(conn, found(tmp_path))["ids"]
    embed(conn, space, *ids)  # type: ignore[misc]
    (tmp_path / "a.png").write_bytes(picture("blue", (9, 9)))
    (tmp_path / "b.png").touch()  # another modification time, the same bytes
    (tmp_path / "m.csv").write_text("file,title,n\nc.png,C,1\n")
    assert counts(run(conn, found(tmp_path, manifest=tmp_path / "m.csv"))) == (0, 2, 1)
    jobs = conn.execute("SELECT image_id FROM lookalike.jobs").fetchall()
    assert jobs == [(conn.execute("SELECT id FROM lookalike.images WHERE uri LIKE '%a.png'").fetchone() or [0])[:1]]
    sizes = conn.execute("SELECT width, height FROM lookalike.images WHERE uri LIKE '%a.png'").fetchone()
    assert sizes == (9, 9)


def test_metadata_that_a_candidate_lacks_stays(tmp_path: Path, conn: db.Connection) -> None:
    path = photos(tmp_path, "a.png") / "a.png"
    run(conn, [Candidate("u", path, "o", "A", {"n": 1, "m": {"x": 1}})])
    assert counts(run(conn, [Candidate("u", path, "o")])) == (0, 0, 1)
    assert counts(run(conn, [Candidate("u", path, "o", None, {"n": 1})])) == (0, 0, 1)
    assert counts(run(conn, [Candidate("u", path, "o", None, {"k": 2})])) == (0, 1, 0)
    row = conn.execute("SELECT caption, attributes FROM lookalike.images").fetchone()
    assert row == ("A", {"n": 1, "m": {"x": 1}, "k": 2})


def test_an_image_registered_without_its_bytes_gets_its_hash_and_is_unchanged(
    tmp_path: Path, conn: db.Connection
) -> None:
    conn.execute("INSERT INTO lookalike.images (uri) VALUES ('u')")
    conn.commit()
    path = photos(tmp_path, "a.png") / "a.png"
    assert counts(run(conn, [Candidate("u", path, "o")])) == (0, 0, 1)
    row = conn.execute("SELECT sha256 = sha256(%s), width FROM lookalike.images", (path.read_bytes(),)).fetchone()
    assert row == (True, 8)


def test_urls_are_registered_without_being_read(conn: db.Connection) -> None:
    candidates = [
        Candidate("https://host.invalid/a.jpg", None, "o", "A", {"n": 1}),
        Candidate("s3://b/c.jpg", None, "p"),
    ]
    assert counts(run(conn, candidates)) == (2, 0, 0)
    assert counts(run(conn, candidates)) == (0, 0, 2)
    assert conn.execute("SELECT count(sha256) FROM lookalike.images").fetchone() == (0,)


def test_a_file_that_is_not_an_image_is_refused_alone_with_its_reason(tmp_path: Path, conn: db.Connection) -> None:
    photos(tmp_path, "good.png")
    bad = {
        "empty.jpg": (b"", "the file is empty (0 bytes)"),
        "text.jpg": (b"hello", "the file is not an image: it begins with b'hello'"),
        "page.jpg": (b"<!DOCTYPE html><html>", "the file is an HTML page"),
        "head.png": (picture()[:20], "the PNG file is cut off after 20 bytes"),
        "large.png": (picture() + b"\0" * 100_000, "the limit is 100,000 (LOOKALIKE_MAX_IMAGE_BYTES)"),
        "wide.png": (picture(size=(2000, 1000)), "2,000 × 1,000 = 2,000,000 pixels; the limit is 1,000,000"),
    }
    for name, (content, _) in bad.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "dangling.jpg").symlink_to("nowhere")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    wanted = {
        **{name: reason for name, (_, reason) in bad.items()},
        "dangling.jpg": "it cannot be read: No such file or directory",
        "loop.jpg": "it cannot be read: Too many levels of symbolic links",
        "pipe.jpg": "it is a folder, a device or a pipe, not a file",
    }
    result = run(conn, found(tmp_path))
    assert counts(result) == (1, 0, 0)
    refused = {Path(one.origin).name: one.reason for one in result["refused"]}  # type: ignore[attr-defined]
    assert refused.keys() == wanted.keys()
    for name, reason in wanted.items():
        assert reason in refused[name]


@pytest.mark.parametrize(("form", "media_type"), FORMATS.items())
def test_headers_of_every_format(form: str, media_type: str) -> None:
    header = read_header(picture(size=(32, 17), form=form), max_pixels=1000)
    assert header == Header(media_type, 32, 17)


def test_a_header_is_read_without_its_pixels() -> None:
    content = picture(size=(300, 200), form="JPEG", quality=95)
    assert read_header(content[: len(content) // 2], max_pixels=10**6).width == 300
    with pytest.raises(
        ImageError, match=r"the file is a PDF, not an image that can be decoded; supported are JPEG, PNG"
    ):
        read_header(b"%PDF-1.7", max_pixels=1)


def test_batches_are_committed_as_they_come_and_the_rest_follows_in_another_run(
    tmp_path: Path, conn: db.Connection, database_url: str
) -> None:
    candidates = found(photos(tmp_path, *(f"{number:02}.png" for number in range(25))))
    conn.autocommit = True
    batches = register_images(conn, candidates, **LIMITS, batch=10)
    assert next(batches).new == 10
    with psycopg.connect(database_url) as other:
        assert other.execute("SELECT count(*) FROM lookalike.images").fetchone() == (10,)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("inspect")]
    assert counts(run(conn, candidates, batch=10)) == (15, 0, 10)


def test_two_at_once_ingest_each_image_once(tmp_path: Path, conn: db.Connection, database_url: str) -> None:
    candidates = found(photos(tmp_path, *(f"{number:02}.png" for number in range(60))))
    results: list[dict[str, object]] = []

    def other() -> None:
        with db.connect(database_url) as mine:
            results.append(run(mine, list(reversed(candidates)), batch=7))

    thread = threading.Thread(target=other)
    thread.start()
    results.append(run(conn, candidates, batch=7))
    thread.join()
    assert sum(int(str(one["new"])) for one in results) == 60
    assert results[0]["ids"] == list(reversed(results[1]["ids"]))  # type: ignore[call-overload]
    assert [one["refused"] for one in results] == [[], []]


def test_waiting_counts_searchable_failed_and_deleted_images(conn: db.Connection) -> None:
    conn.autocommit = True
    space = make_space(conn)
    ids = run(conn, [Candidate(f"s3://b/{number}", None, "o") for number in range(5)])["ids"]
    a, b, c, d, e = ids  # type: ignore[misc]
    embed(conn, space, a, b, c)
    conn.execute(
        "INSERT INTO lookalike.failures (image_id, space_id, uri, step, reason, attempts)"
        " VALUES (%s, %s, '', '', '', 1)",
        (d, space.id),
    )
    conn.execute("DELETE FROM lookalike.images WHERE id = %s", (e,))
    reported: list[Progress] = []
    done = wait_until_searchable(conn, [a, b, c, d, e], progress=reported.append)
    assert done == Progress(3, 1, 1, worker_alive=False)
    assert reported == [done]


def test_waiting_ends_when_the_embedding_is_written(conn: db.Connection, database_url: str) -> None:
    conn.autocommit = True
    space = make_space(conn)
    ids = run(conn, [Candidate("s3://b/1", None, "o")])["ids"]

    def progress(now: Progress) -> None:
        if not now.done:
            with psycopg.connect(database_url) as other:
                embed(other, space, *ids)  # type: ignore[misc]

    assert wait_until_searchable(conn, ids, progress=progress).searchable == 1  # type: ignore[arg-type]


def test_waiting_raises_without_a_worker(conn: db.Connection) -> None:
    ids = run(conn, [Candidate("s3://b/1", None, "o")])["ids"]
    with pytest.raises(NoWorkerError, match=r"1 images wait, but no worker has been alive for 0\.3 s; start one"):
        wait_until_searchable(conn, ids, patience=0.3)  # type: ignore[arg-type]


def test_a_batch_of_refusals_alone_runs_no_statement(tmp_path: Path, conn: db.Connection) -> None:
    result = run(conn, [Candidate("u", tmp_path / "none.jpg", "o")])
    assert result["refused"] == [Refusal("o", "it cannot be read: No such file or directory")]
