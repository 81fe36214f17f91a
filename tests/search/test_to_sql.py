"""The SQL that stands for a request gives the request's results, in psql."""

import csv
import io
import subprocess

import pytest

from app import db
from app.db.embedded import EmbeddedServer
from app.search.request import Request
from app.search.run import run_search
from app.search.to_sql import statement
from tests.support import gallery_data

VECTORS = gallery_data.unit(80, 8, seed=3)


@pytest.fixture(scope="module")
def gallery_url(new_database, template):
    url = new_database(template)
    with db.connect(url) as conn:
        gallery_data.make_space(conn, 8)
        captions = [f"{'red' if n % 3 else 'blue'} pot {n}" for n in range(80)]
        gallery_data.fill(conn, VECTORS, [{"color": c.split()[0], "it's": "a \\ 'b'"} for c in captions], captions)
    return url


REQUESTS = {
    "image": Request(image_id=5),
    "image, options": Request(image_id=5, k=7, filter={"color": "red", "it's": "a \\ 'b'"}, exclude=[7, 8], recall=1),
    "index": Request(image_id=5, strategy="index", max_distance=1.3),
    "vector": Request(query=VECTORS[9], k=4, strategy="exact"),
    "radius": Request(query=VECTORS[9], k=40, max_distance=1.1),
    "examples": Request(
        image_id=5, like=[6], unlike=[9], like_embeddings=[VECTORS[20]], unlike_embeddings=[VECTORS[30]]
    ),
    "diverse": Request(image_id=5, mode="diverse", value=0.4, k=6),
    "distinct": Request(like=[5, 6], mode="distinct", value=0.9, k=6),
    "grouped": Request(image_id=5, mode="group_by", value="color"),
    "page": Request(image_id=5, mode="cursor", value="start", k=5),
    "words": Request(mode="text", value="red pot", k=12, exclude=[4, 5]),
    "words and look": Request(mode="text", value="blue", image_id=5, k=6, unlike=[8]),
    "quoted": Request(mode="text", value="it's \\ ' :pot", k=3),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_psql_gives_what_the_request_gives(server: EmbeddedServer, gallery_url: str, name: str) -> None:
    asked = REQUESTS[name]
    with db.connect(gallery_url, autocommit=True) as conn:
        expected = [hit.image.id for hit in run_search(conn, asked).hits]
    assert expected or name == "quoted"
    assert psql(server, gallery_url, statement(asked)) == expected


def psql(server: EmbeddedServer, url: str, text: str) -> list[int]:
    told = subprocess.run(
        [server.bin_dir / "psql", url, "-X", "-q", "--csv", "-v", "ON_ERROR_STOP=1", "-f", "-"],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(row["id"]) for row in csv.DictReader(io.StringIO(told.stdout))]
