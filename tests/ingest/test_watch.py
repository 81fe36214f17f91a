"""A watched folder on a real database: files that land, grow, change, move and disappear; outages."""

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from app import db
from app.errors import DatabaseUnavailableError, InvalidInputError
from app.ingest.find import Refusal
from app.ingest.folder import looks_complete, remote_filesystem
from app.ingest.watch import Watch
from tests.support.ingest import picture


class Watched:
    """A watch that runs in a thread, and the rows that it writes."""

    def __init__(self, watch: Watch, url: str) -> None:
        self.watch = watch
        self.refused: list[Refusal] = []
        self.connections = 0
        self.cut: Callable[[], None] = lambda: None
        self._url = url
        self._thread = threading.Thread(target=lambda: watch.run(self._connect, self.refused.extend))

    @contextmanager
    def _connect(self) -> Iterator[db.Connection]:
        with db.translated(), db.connect(self._url, autocommit=True, application="watch") as conn:
            self.connections += 1
            yield conn

    def __enter__(self) -> "Watched":
        self._thread.start()
        self.until(lambda: self.watch.caught_up and not self.watch.waiting)
        return self

    def __exit__(self, *_: object) -> None:
        self.watch.stop()
        self._thread.join(20)
        assert not self._thread.is_alive()

    def until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not done():
            assert self._thread.is_alive()
            assert time.monotonic() < deadline, (self.watch.counts, self.refused)
            time.sleep(0.02)

    def rows(self) -> dict[str, tuple[int, str | None]]:
        with psycopg.connect(self._url) as conn:
            return {
                os.path.relpath(uri, self.watch.folder): (id_, sha)
                for uri, id_, sha in conn.execute("SELECT uri, id, encode(sha256, 'hex') FROM lookalike.images")
            }

    def shows(self, *names: str) -> None:
        self.until(lambda: sorted(self.rows()) == sorted(names))


@pytest.fixture(params=[None, 0.1], ids=["inotify", "polling"])
def watching(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> Callable[..., Watched]:
    folder = tmp_path / "in"
    folder.mkdir()

    def make(**options: object) -> Watched:
        given = {"max_bytes": 100_000, "max_pixels": 1_000_000, "settle": 0.2, "poll": request.param, **options}
        return Watched(Watch(folder, **given), database_url)  # type: ignore[arg-type]

    return make


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_files_that_exist_and_files_that_land_become_images(watching: Callable[..., Watched], tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "a.png").write_bytes(picture("red"))
    (folder / "notes.txt").write_text("x")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "secret.png").write_bytes(picture("black"))
    (folder / "linked").symlink_to(tmp_path)
    with watching() as watched:
        assert sorted(watched.rows()) == ["a.png"]
        skipped = watched.watch.counts.skipped
        assert (skipped.others, skipped.links, skipped.closed) == (1, 2, 0)
        (folder / "b.png").write_bytes(picture("blue"))
        (folder / "deep" / "er").mkdir(parents=True)
        (folder / "deep" / "er" / "c.png").write_bytes(picture("green"))
        (folder / ".hidden.png").write_bytes(picture("green"))
        (folder / "moving").write_bytes(picture("white"))
        (folder / "moving").rename(folder / "d.png")
        (folder / "late.png").symlink_to(tmp_path / "secret.png")
        watched.shows("a.png", "b.png", "deep/er/c.png", "d.png")
        assert watched.refused == []
    with watching() as again:
        assert (again.watch.counts.new, again.watch.counts.unchanged) == (0, 4)


def test_a_file_is_registered_when_it_is_complete(watching: Callable[..., Watched], tmp_path: Path) -> None:
    whole = picture(size=(200, 200), form="JPEG", quality=95)
    with watching() as watched, (tmp_path / "in" / "slow.jpg").open("wb") as file:
        for at in range(0, len(whole), 500):
            file.write(whole[at : at + 500])
            file.flush()
            time.sleep(0.25)  # longer than the settle time
            if at + 500 < len(whole):
                assert watched.rows() == {}
        file.close()
        watched.shows("slow.jpg")
        assert watched.rows()["slow.jpg"][1] == sha(whole)
        assert (watched.watch.counts.new, watched.watch.counts.changed, watched.refused) == (1, 0, [])


def test_a_truncated_file_is_refused_and_registered_once_it_is_complete(
    watching: Callable[..., Watched], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.ingest.pending._PATIENCE_SECONDS", 0.5)
    path = tmp_path / "in" / "cut.png"
    with watching() as watched:
        path.write_bytes(picture()[:20])
        watched.until(lambda: bool(watched.refused))
        assert "the PNG file is cut off after 20 bytes" in watched.refused[0].reason
        assert watched.rows() == {}
        path.write_bytes(picture())
        watched.shows("cut.png")
        assert len(watched.refused) == 1


def test_other_bytes_change_the_image_and_the_same_bytes_do_not(
    watching: Callable[..., Watched], tmp_path: Path
) -> None:
    path = tmp_path / "in" / "a.png"
    path.write_bytes(picture("red"))
    with watching() as watched:
        id_ = watched.rows()["a.png"][0]
        path.write_bytes(picture("blue"))
        watched.until(lambda: watched.rows()["a.png"] == (id_, sha(picture("blue"))))
        path.touch()
        watched.until(lambda: watched.watch.counts.unchanged == 1)
        # as editors save: they rename the old file and write a new one
        path.rename(path.with_suffix(".png~"))
        path.write_bytes(picture("green"))
        watched.until(lambda: watched.rows().get("a.png", ())[1:] == (sha(picture("green")),))
        assert watched.rows().keys() == {"a.png"}


def test_an_image_follows_its_file(watching: Callable[..., Watched], tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "a.png").write_bytes(picture("red"))
    (folder / "box").mkdir()
    (folder / "box" / "b.png").write_bytes(picture("blue"))
    with watching() as watched:
        ids = {id_ for id_, _ in watched.rows().values()}
        (folder / "a.png").rename(folder / "z.png")
        (folder / "box").rename(folder / "crate")
        watched.shows("z.png", "crate/b.png")
        assert {id_ for id_, _ in watched.rows().values()} == ids
        assert (watched.watch.counts.renamed, watched.watch.counts.new) == (2, 2)
        (folder / "z.png").rename(tmp_path / "elsewhere.png")
        watched.until(lambda: watched.watch.counts.kept == 1)
        watched.shows("z.png", "crate/b.png")


def test_deletion_is_mirrored_on_request(watching: Callable[..., Watched], tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for name in ("a", "b", "c", "d"):
        (folder / f"{name}.png").write_bytes(picture("#" + 6 * name))
    with watching(base_uri="https://cdn.example/x y"):
        pass
    (folder / "a.png").unlink()  # while no watch runs
    with watching(delete=True, base_uri="https://cdn.example/x y") as watched:
        assert watched.watch.counts.deleted == 1
        (folder / "b.png").unlink()
        watched.until(lambda: len(watched.rows()) == 2)
        assert watched.watch.counts.kept == 0


def test_an_empty_or_missing_folder_deletes_nothing(watching: Callable[..., Watched], tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "a.png").write_bytes(picture())
    with watching(delete=True):
        pass
    folder.rename(tmp_path / "unmounted")
    folder.mkdir()
    with watching(delete=True) as watched:
        assert (watched.watch.counts.deleted, len(watched.rows())) == (0, 1)


def test_no_file_is_lost_while_the_database_is_down(
    watching: Callable[..., Watched], tmp_path: Path, database_url: str
) -> None:
    folder = tmp_path / "in"
    with watching() as watched, psycopg.connect(database_url, autocommit=True) as admin:
        for number in range(3):
            (folder / f"{number}.png").write_bytes(picture("#00000" + str(number)))
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'watch'")
            (folder / f"{number}x.png").write_bytes(picture("#10000" + str(number)))
            watched.until(lambda number=number: watched.connections > number + 1)
        watched.shows("0.png", "0x.png", "1.png", "1x.png", "2.png", "2x.png")
        assert watched.watch.counts.reconnects == 3


def test_two_watchers_do_no_harm(watching: Callable[..., Watched], tmp_path: Path) -> None:
    folder = tmp_path / "in"
    with watching(delete=True) as one, watching(delete=True) as two:
        for number in range(20):
            (folder / f"{number}.png").write_bytes(picture(f"#0000{number:02}"))
        one.until(lambda: len(one.rows()) == 20)
        ids = {id_ for id_, _ in one.rows().values()}
        for number in range(10):
            (folder / f"{number}.png").rename(folder / f"r{number}.png")
        (folder / "19.png").unlink()
        wanted = {*(f"r{number}.png" for number in range(10)), *(f"{number}.png" for number in range(10, 19))}
        one.until(lambda: one.rows().keys() == wanted)
        assert {id_ for id_, _ in one.rows().values()} < ids
        one.until(lambda: not one.watch.waiting and not two.watch.waiting)
        assert (one.refused, two.refused) == ([], [])


def test_a_replaced_folder_is_watched_and_no_image_is_deleted(watching: Callable[..., Watched], tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "a.png").write_bytes(picture("red"))
    with watching(delete=True) as watched:
        folder.rename(tmp_path / "old")
        time.sleep(0.3)
        folder.mkdir()
        (folder / "b.png").write_bytes(picture("blue"))
        watched.until(lambda: "b.png" in watched.rows())
        (folder / "c.png").write_bytes(picture("green"))
        watched.shows("a.png", "b.png", "c.png")


def test_a_missing_folder_raises(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"there is no folder .*none to watch"):
        Watch(tmp_path / "none", max_bytes=1, max_pixels=1)


def test_an_error_other_than_a_lost_connection_ends_the_watch(tmp_path: Path) -> None:
    @contextmanager
    def connect() -> Iterator[db.Connection]:
        raise InvalidInputError("no")
        yield

    with pytest.raises(InvalidInputError):
        Watch(tmp_path, max_bytes=1, max_pixels=1).run(connect, lambda _: None)


def test_a_watch_stops_while_the_database_is_down(tmp_path: Path) -> None:
    watch = Watch(tmp_path, max_bytes=1, max_pixels=1)

    @contextmanager
    def connect() -> Iterator[db.Connection]:
        watch.stop()
        raise DatabaseUnavailableError("down")
        yield

    watch.run(connect, lambda _: None)


def test_network_filesystems_are_recognized() -> None:
    mounts = (
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "30 22 0:44 / /srv/my\\040share rw shared:1 - nfs4 host:/x rw\n"
        "31 30 0:45 / /srv/my\\040share/local rw - xfs /dev/sdb rw\n"
    )
    assert remote_filesystem(Path("/srv/my share/in"), mounts) == "nfs4"
    assert remote_filesystem(Path("/srv/my share/local/in"), mounts) is None
    assert remote_filesystem(Path("/srv/in"), mounts) is None


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "BMP"])
def test_an_incomplete_file_is_recognized(form: str, tmp_path: Path) -> None:
    data = picture(size=(50, 50), form=form)
    path = tmp_path / "a"
    path.write_bytes(data)
    assert looks_complete(str(path))
    for size in (0, 10, len(data) // 2, len(data) - 1 - 12 * (form == "PNG")):
        path.write_bytes(data[:size])
        assert not looks_complete(str(path)), size


def test_a_file_rewritten_with_its_size_and_its_time_is_registered_again(
    watching: Callable[..., Watched], tmp_path: Path
) -> None:
    path = tmp_path / "in" / "a.png"
    red, blue = picture("red", form="BMP"), picture("blue", form="BMP")
    assert len(red) == len(blue)
    path.write_bytes(red)
    before = path.stat()
    with watching() as watched:
        path.write_bytes(blue)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        watched.until(lambda: watched.rows()["a.png"][1] == sha(blue))
