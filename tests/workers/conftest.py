"""Workers in threads of the test process."""

import threading

import pytest
import timm
import torch

from app.config import Settings
from app.store import spaces
from tests.support.worker import MODEL
from workers.encoder import Encoder
from workers.models import load_model
from workers.served_spaces import Served
from workers.worker import Worker


@pytest.fixture
def served(auto, lite0) -> Served:
    space = spaces.create(
        auto,
        name="lite0",
        model=lite0.model_name,
        weights=None,
        dimensions=lite0.dimensions,
        preprocessing=lite0.preprocessing,
        fingerprint=lite0.fingerprint,
    )
    return Served(space, lite0)


@pytest.fixture
def start(database_url, served):
    """Start workers in threads; at the end stop each and check that it raised nothing that the test did not expect."""
    started: list[tuple[Worker, threading.Thread]] = []
    errors: list[BaseException] = []

    def begin(*, encoder: Encoder | None = None, drain: bool = False, **values: object) -> threading.Thread:
        options = Settings(**{"batch_size": 8, "loader_threads": 2, **values})
        worker = Worker(database_url, [Served(served.space, encoder or served.encoder)], options, drain=drain)

        def run() -> None:
            try:
                worker.run()
            except BaseException as error:  # noqa: BLE001 — raised again below, in the test's thread
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.worker, thread.errors = worker, errors
        thread.start()
        started.append((worker, thread))
        return thread

    yield begin
    for worker, thread in started:
        worker.stop()
        thread.join(timeout=30)
        assert not thread.is_alive()
    assert not errors


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Encoder:
    """Return an encoder of a small model with random weights."""
    torch.manual_seed(0)
    weights = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.save(timm.create_model(MODEL).state_dict(), weights)
    return Encoder(load_model(MODEL, str(weights)), device="cpu")
