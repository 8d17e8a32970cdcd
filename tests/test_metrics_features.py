"""Features of images: the same whatever the batch and type, textures equal to scikit-image's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import kurtosis, skew
from skimage.feature import graycomatrix, graycoprops
from torch import nn

from monai_vqbrain.metrics.features import (
    BATCH,
    TEXTURE_NAMES,
    EncoderFeatures,
    RandomConvFeatures,
    Standardiser,
    co_occurrences,
    texture_features,
)
from monai_vqbrain.networks import BrainVQVAE


def slices(n: int = 5, width: int = 40, height: int = 48, seed: int = 0) -> np.ndarray:
    """Smooth bright blobs on black, uint8."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.random((n, 1, 8, 8), dtype=np.float32))
    fine = nn.functional.interpolate(coarse, (width, height), mode="bicubic")[:, 0].numpy()
    found = (np.clip(fine, 0.1, 1) * 255).astype(np.uint8)
    found[:, :5] = found[:, :, -7:] = 0
    return found


def spaces() -> dict[str, object]:
    torch.manual_seed(0)
    return {
        "encoder": EncoderFeatures(BrainVQVAE(width=8)),
        "random": RandomConvFeatures(),
        "texture": texture_features,
    }


@pytest.mark.parametrize(("name", "size"), [("encoder", 64), ("random", 256), ("texture", 30)])
def test_each_space_gives_float32_for_bytes_floats_and_tensors(name: str, size: int) -> None:
    images, space = slices(), spaces()[name]
    found = space(images)  # type: ignore[operator]
    assert (found.shape, found.dtype) == ((5, size), np.float32)
    assert np.isfinite(found).all()
    for same in (images / 255, (images / 255).astype(np.float32), torch.from_numpy(images)):
        np.testing.assert_allclose(space(same), found, rtol=1e-4, atol=1e-5)  # type: ignore[operator]


@pytest.mark.parametrize("name", ["encoder", "random", "texture"])
def test_features_do_not_depend_on_the_batch(name: str) -> None:
    images, space = slices(BATCH + 3), spaces()[name]
    alone = space(images[-2:])  # type: ignore[operator]
    np.testing.assert_allclose(space(images)[-2:], alone, rtol=1e-4, atol=1e-5)  # type: ignore[operator]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["encoder", "random", "texture"])
def test_mirrored_and_read_only_views_are_images_too(name: str) -> None:
    images, space = slices(), spaces()[name]
    view = np.broadcast_to(images[0, ::-1], images.shape)
    expected = space(np.array(view))  # type: ignore[operator]
    np.testing.assert_array_equal(space(view), expected)  # type: ignore[operator]


def test_networks_see_batches_of_a_fixed_size_only() -> None:
    seen: list[int] = []

    class Encoder(nn.Module):
        def encode(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(len(images))
            return images

    assert EncoderFeatures(Encoder(), pool=1, batch_size=4)(slices(10)).shape == (10, 2)
    assert seen == [4, 4, 2]


def test_encoder_features_are_means_and_deviations_of_cells() -> None:
    class Encoder(nn.Module):
        def encode(self, images: torch.Tensor) -> torch.Tensor:
            return images

    images = slices(3, 40, 48) / 255
    cells = images.reshape(3, 2, 20, 2, 24).transpose(0, 1, 3, 2, 4).reshape(3, 4, -1)
    expected = np.concatenate([cells.mean(axis=2), cells.std(axis=2)], axis=1)
    np.testing.assert_allclose(EncoderFeatures(Encoder())(images), expected, atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_in_its_mode_and_its_codebook_alone(training: bool) -> None:
    network = BrainVQVAE(width=8).train(training)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    EncoderFeatures(network)(slices())
    assert network.training == training
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_random_weights_are_those_of_the_seed_whatever_the_global_state() -> None:
    torch.manual_seed(1)
    first = RandomConvFeatures(seed=3)
    torch.manual_seed(2)
    second = RandomConvFeatures(seed=3)
    np.testing.assert_array_equal(first(slices()), second(slices()))
    assert not np.allclose(RandomConvFeatures(seed=4)(slices()), first(slices()))


def test_random_weights_are_the_same_on_every_machine() -> None:
    weights = RandomConvFeatures().weights
    expected = [-0.006113, 0.4380044, -0.6720136]
    np.testing.assert_allclose(weights[0][0, 0, 0], expected, atol=1e-6)
    assert [len(w) for w in weights] == [16, 32, 64, 64]


@pytest.mark.parametrize("distance", [1, 2, 4])
def test_co_occurrences_equal_scikit_image(distance: int) -> None:
    images = slices(3) // 8
    found = co_occurrences(images, np.ones(images.shape, dtype=bool), distance)
    for image, pairs in zip(images, found, strict=True):
        both = graycomatrix(image, [distance], [0, np.pi / 2], levels=32, symmetric=True)
        np.testing.assert_array_equal(pairs, both[:, :, 0].sum(axis=2))


def test_haralick_features_equal_scikit_image_inside_the_mask() -> None:
    images = slices(4)
    masks = np.random.default_rng(0).random(images.shape) < 0.8
    found = texture_features(images, masks)
    for values, image, mask in zip(found, images, masks, strict=True):
        levels = np.where(mask, image // 8 + 1, 0)  # 0 stands for outside, and is left out below
        pairs = graycomatrix(levels, [1, 2, 4], [0, np.pi / 2], levels=33, symmetric=True)
        pooled = pairs[1:, 1:].sum(axis=3, keepdims=True)
        shares = pooled / pooled.sum(axis=(0, 1))
        for name in ("contrast", "homogeneity", "energy", "correlation"):
            places = [TEXTURE_NAMES.index(f"{name}_{d}") for d in (1, 2, 4)]
            expected = graycoprops(shares, name)[:, 0]
            np.testing.assert_allclose(values[places], expected, rtol=1e-5)


def test_first_order_features_equal_numpy_and_scipy() -> None:
    images = slices(4)
    masks = images > 40
    for row, image, mask in zip(texture_features(images, masks), images, masks, strict=True):
        values = dict(zip(TEXTURE_NAMES, row, strict=True))
        grey = image[mask] / 255
        share = np.bincount(image[mask]) / mask.sum()
        share = share[share > 0]
        expected = {
            "area": mask.mean(),
            "mean": grey.mean(),
            "sd": grey.std(),
            "skewness": skew(grey),
            "kurtosis": kurtosis(grey),
            "percentile_25": np.percentile(grey, 25, method="inverted_cdf"),
            "entropy": -(share * np.log2(share)).sum(),
            "uniformity": (share**2).sum(),
        }
        assert {name: values[name] for name in expected} == pytest.approx(expected, rel=1e-4)


def test_gradients_equal_numpy_where_all_neighbours_lie_inside() -> None:
    image = slices(1)
    values = dict(zip(TEXTURE_NAMES, texture_features(image, np.ones_like(image))[0], strict=True))
    across, down = (g[1:-1, 1:-1] for g in np.gradient(image[0] / 255))
    steep = np.hypot(across, down)
    assert values["gradient_mean"] == pytest.approx(steep.mean(), rel=1e-4)
    assert values["gradient_sd"] == pytest.approx(steep.std(), rel=1e-3)
    assert values["gradient_percentile_90"] == pytest.approx(np.percentile(steep, 90), abs=1 / 255)


def test_textures_do_not_see_a_mirror_nor_what_lies_outside() -> None:
    images = slices(3)
    masks = images > 60
    found = texture_features(images, masks)
    np.testing.assert_allclose(texture_features(images[:, ::-1], masks[:, ::-1]), found, rtol=1e-5)
    np.testing.assert_allclose(texture_features(np.where(masks, images, 255), masks), found)


def test_an_image_without_a_pixel_inside_gives_zeros_and_a_flat_one_is_finite() -> None:
    images = np.stack([np.zeros((32, 32)), np.full((32, 32), 0.5)])
    found = texture_features(images)
    assert not found[0].any()
    assert np.isfinite(found[1]).all()
    assert found[1][TEXTURE_NAMES.index("sd")] == pytest.approx(0, abs=1e-6)


def test_standardised_reference_has_mean_0_and_deviation_1() -> None:
    rng = np.random.default_rng(0)
    reference = rng.normal([5, -3, 2], [10, 0.1, 0], size=(200, 3)).astype(np.float32)
    found = Standardiser.fit(reference)(reference)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(found.std(axis=0), [1, 1, 0], atol=1e-4)
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: EncoderFeatures(nn.ReLU()), "needs `encode`, which ReLU has not"),
        (lambda: RandomConvFeatures()(slices()[0]), r"must be \(N, W, H\), N at least 1, not \(40"),
        (lambda: texture_features(slices()[:0]), r"must be \(N, W, H\), N at least 1, not \(0, 40"),
        (lambda: texture_features(slices(), slices(4)), r"images' shape \(5, 40, 48\), not \(4,"),
        (lambda: Standardiser.fit(np.zeros((1, 3))), r"N at least 2, not \(1, 3\)"),
    ],
)
def test_wrong_shapes_are_named(call: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()  # type: ignore[operator]
