"""app.media.uploads: files named by content hash, in a folder and in an fsspec store, written whole or not at all."""

import hashlib
import os
import threading
from pathlib import Path

import fsspec
import pytest

from app.config import Settings
from app.errors import ConfigurationError, StorageError
from app.media import uploads

DATA = b"the bytes of an image"
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(params=["folder", "file url", "store"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> uploads.Storage:
    url = {"folder": f"{tmp_path}/a b", "file url": f"file://{tmp_path}/u/", "store": f"memory://bucket{tmp_path}"}
    return uploads.open_storage(Settings(storage_url=url[request.param]))


def read(uri: str) -> bytes:
    with fsspec.open(uri, "rb") as file:
        return bytes(file.read())


def test_put_names_files_by_content(place: uploads.Storage) -> None:
    uri = uploads.put(place, DATA, sha256=SHA256, media_type="image/png")
    assert uri.endswith(f"/{SHA256[:2]}/{SHA256}.png")
    assert uri.startswith("/" if place.local else "memory://")
    assert read(uri) == DATA
    assert uploads.uri_of(place, SHA256, "image/png") == uri
    assert uploads.put(place, DATA, sha256=SHA256, media_type="image/png") == uri


def test_put_never_overwrites(place: uploads.Storage) -> None:
    uri = uploads.put(place, DATA, sha256=SHA256, media_type="image/jpeg")
    uploads.put(place, b"other bytes", sha256=SHA256, media_type="image/jpeg")
    assert read(uri) == DATA


def test_files_of_a_killed_writer_are_swept(tmp_path: Path) -> None:
    place = uploads.open_storage(Settings(storage_url=str(tmp_path)))
    uri = uploads.put(place, DATA, sha256=SHA256, media_type="image/png")
    left, at_work = tmp_path / ".drafts" / "cut.png.0123", tmp_path / ".drafts" / "new.png.4567"
    left.write_bytes(DATA[:3])
    at_work.write_bytes(DATA[:3])
    os.utime(left, (0, 0))
    assert uploads.sweep(place) == 1
    assert not left.exists()
    assert at_work.exists()
    assert read(uri) == DATA
    assert uploads.sweep(place, older_than=0) == 1
    assert read(uri) == DATA


def test_nothing_to_sweep(place: uploads.Storage) -> None:
    assert uploads.sweep(place) == 0


def test_unknown_media_type_has_no_suffix(place: uploads.Storage) -> None:
    assert uploads.uri_of(place, SHA256, "text/html").endswith(SHA256)


def test_remove(place: uploads.Storage) -> None:
    uri = uploads.put(place, DATA, sha256=SHA256, media_type="image/png")
    uploads.remove(place, uri)
    with pytest.raises(FileNotFoundError):
        read(uri)
    uploads.remove(place, uri)


def test_owns_only_uris_from_put(place: uploads.Storage, tmp_path: Path) -> None:
    uri = uploads.uri_of(place, SHA256, "image/png")
    folder = uri.removesuffix(f"/{SHA256[:2]}/{SHA256}.png")
    assert uploads.owns(place, uri)
    for other in (
        f"{folder}/{SHA256}.png",
        f"{folder}/zz/{SHA256}.png",
        f"{folder}/{SHA256[:2]}/../{SHA256[:2]}/{SHA256}.png",
        f"{folder}/{SHA256[:2]}/{SHA256}.png?x",
        f"{folder}/{SHA256[:2]}/cat.png",
        f"{tmp_path}/elsewhere/{SHA256[:2]}/{SHA256}.png",
        "",
    ):
        assert not uploads.owns(place, other)
        with pytest.raises(ValueError, match="is not a file of the storage"):
            uploads.remove(place, other)


def test_default_is_uploads_in_home(tmp_path: Path) -> None:
    place = uploads.open_storage(Settings(home=tmp_path / "home"))
    assert not (tmp_path / "home").exists()
    uri = uploads.put(place, DATA, sha256=SHA256, media_type="image/png")
    assert Path(uri).is_relative_to(tmp_path / "home" / "uploads")
    assert Path(uri).stat().st_mode & 0o777 == 0o666 & ~_umask()


def test_relative_home_gives_an_absolute_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = uploads.open_storage(Settings(home=Path("home")))
    monkeypatch.chdir("/")
    assert uploads.put(place, DATA, sha256=SHA256, media_type="image/png").startswith(f"{tmp_path}/home/uploads/")


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = uploads.open_storage(Settings(storage_url=str(tmp_path / "u")))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="No space left on device"):
            uploads.put(place, DATA, sha256=SHA256, media_type="image/png")
    assert [path for path in (tmp_path / "u").rglob("*") if path.is_file()] == []
    uploads.put(place, DATA, sha256=SHA256, media_type="image/png")


def test_storage_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    place = uploads.open_storage(Settings(storage_url=str(tmp_path / "file")))
    with pytest.raises(StorageError, match="cannot be stored"):
        uploads.put(place, DATA, sha256=SHA256, media_type="image/png")


@pytest.mark.parametrize("url", ["nonsense://bucket", "abfs://container/x"])
def test_unusable_url(url: str) -> None:
    with pytest.raises(ConfigurationError, match="LOOKALIKE_STORAGE_URL"):
        uploads.open_storage(Settings(storage_url=url))


def test_many_writers_of_one_content(tmp_path: Path) -> None:
    place = uploads.open_storage(Settings(storage_url=str(tmp_path)))
    seen: list[str] = []
    data = DATA * 100_000
    sha256 = hashlib.sha256(data).hexdigest()

    def write() -> None:
        uri = uploads.put(place, data, sha256=sha256, media_type="image/png")
        assert len(Path(uri).read_bytes()) == len(data)
        seen.append(uri)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [f"{sha256}.png"]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
