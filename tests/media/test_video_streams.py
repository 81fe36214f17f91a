"""Which stream of a video its frames come from."""

from pathlib import Path

import av
import pytest

from app.errors import ImageError
from app.media import video
from app.media.limits import Limits

LIMITS = Limits(max_bytes=2**27, max_pixels=10**8, timeout=5)
FILM = Path(__file__).parent / "cases/coverfirst.mp4"


def frames(path: Path) -> list[video.Frame]:
    source = video.source_of(str(path), LIMITS)
    return list(video.frames(source, fps=1, limits=LIMITS, counts=video.Counts(), stop=lambda: False))


def test_a_cover_picture_is_not_the_film() -> None:
    with av.open(str(FILM)) as container:
        cover, film = container.streams.video
        size = (film.codec_context.width, film.codec_context.height)
        assert cover.disposition & av.stream.Disposition.attached_pic
    found = frames(FILM)
    assert len(found) == 2
    assert {(one.picture.width, one.picture.height) for one in found} == {size}


def test_a_cover_without_a_film_is_no_video(tmp_path: Path) -> None:
    song = tmp_path / "song.mp4"
    with av.open(str(FILM)) as source, av.open(str(song), "w") as copy:
        cover = source.streams.video[0]
        out = copy.add_stream_from_template(cover)
        out.disposition = cover.disposition
        for packet in source.demux(cover):
            if packet.size:
                packet.stream = out
                copy.mux(packet)
    with pytest.raises(ImageError, match="has no video in it"):
        frames(song)
