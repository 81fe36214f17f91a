"""`python -m workers.describe_model`: print what an embedding space of a model stores, as JSON."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence

from app.config import settings
from app.errors import LookalikeError


def main(arguments: Sequence[str] | None = None) -> int:
    """Print model, dimensions, preprocessing, fingerprint and source; on an error print one line and return 1."""
    parser = argparse.ArgumentParser(prog="python -m workers.describe_model", description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--weights")
    parser.add_argument("--preprocessing", default="{}", help="changes to timm's data config, as JSON")
    options = parser.parse_args(arguments)
    logging.basicConfig(level="WARNING")
    try:
        sys.stdout.write(json.dumps(_describe(options.model, options.weights, options.preprocessing)) + "\n")
    except LookalikeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _describe(name: str, weights: str | None, preprocessing: str) -> dict[str, object]:
    # Imported here so that --help does not wait for torch.
    from workers.encoder import Encoder
    from workers.models import load_model

    model = load_model(name, weights, preprocessing=json.loads(preprocessing))
    encoder = Encoder(model, device=settings().device or "cpu")
    return {
        "model": model.name,
        "dimensions": encoder.dimensions,
        "preprocessing": model.preprocessing,
        "fingerprint": model.fingerprint,
        "source": model.source,
    }


if __name__ == "__main__":
    sys.exit(main())
