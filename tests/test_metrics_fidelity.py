"""SSIM and PSNR against scikit-image, and what they must not flatter."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy.signal import fftconvolve
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from monai_vqbrain.metrics import (
    SCORES,
    psnr_brain,
    slice_scores,
    ssim_brain,
    ssim_map,
    ssim_whole,
)


def pair(width: int, height: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A target with a black background, and a noisy prediction of it that leaves [0, 1]."""
    rng = np.random.default_rng(seed)
    target = rng.random((width, height), dtype=np.float32)
    target[: width // 3] = 0
    noise = rng.normal(0, 0.3, target.shape).astype(np.float32)
    return target + noise, target


def batch(*images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(images))[:, None]


@pytest.mark.parametrize("size", [(64, 64), (40, 61), (11, 13)], ids=str)
def test_ssim_map_equals_scikit_image(size: tuple[int, int]) -> None:
    prediction, target = pair(*size)
    _, expected = structural_similarity(
        prediction.clip(0, 1),
        target,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1,
        full=True,
    )
    found = ssim_map(batch(prediction), batch(target))
    assert found.shape == (1, 1, *size)
    np.testing.assert_allclose(found[0, 0], expected, atol=1e-5)


def test_ssim_works_on_images_smaller_than_the_window() -> None:
    image = torch.rand(1, 1, 4, 6)
    torch.testing.assert_close(ssim_whole(image, image), torch.ones(1))


def test_ssim_brain_is_the_maps_mean_over_each_targets_mask() -> None:
    predictions, targets = zip(*(pair(32, 24, seed) for seed in (0, 1)), strict=True)
    mask = batch(*targets) > 0.5
    values = ssim_map(batch(*predictions), batch(*targets))
    expected = [float(v[m].mean()) for v, m in zip(values, mask, strict=True)]
    found = ssim_brain(batch(*predictions), batch(*targets), mask)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_black_image_scores_nothing_inside_the_brain_but_flatters_as_a_whole() -> None:
    _, target = pair(64, 64)
    target[:48] = 0
    black = torch.zeros(1, 1, 64, 64)
    assert float(ssim_brain(black, batch(target), batch(target) > 0)[0]) < 0.01
    assert float(ssim_whole(black, batch(target))[0]) > 0.5


def test_ssim_is_float32_under_autocast() -> None:
    prediction, target = (batch(x) for x in pair(32, 32))
    with torch.autocast("cpu", torch.bfloat16):
        found = ssim_map(prediction, target)
    torch.testing.assert_close(found, ssim_map(prediction, target))


def test_psnr_equals_scikit_image_inside_the_mask() -> None:
    prediction, target = pair(32, 24)
    mask = target > 0
    expected = peak_signal_noise_ratio(target[mask], prediction.clip(0, 1)[mask], data_range=1)
    found = psnr_brain(batch(prediction), batch(target), batch(mask))
    np.testing.assert_allclose(found, [expected], rtol=1e-5)


def scales_of(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[float, float]]:
    """SSIM and its contrast part at five scales, as Wang et al. 2003 define them."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets**2) / (2 * 1.5**2))
    kernel = np.outer(window, window) / window.sum() ** 2
    for _ in range(5):
        mx, my, xx, yy, xy = (
            fftconvolve(image, kernel, mode="valid") for image in (x, y, x * x, y * y, x * y)
        )
        contrast = (2 * (xy - mx * my) + 0.03**2) / (xx - mx**2 + yy - my**2 + 0.03**2)
        light = (2 * mx * my + 0.01**2) / (mx**2 + my**2 + 0.01**2)
        yield float((contrast * light).mean()), float(contrast.mean())
        x, y = (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]
                for image in (x[: len(x) // 2 * 2] / 4, y[: len(y) // 2 * 2] / 4))  # fmt: skip


@pytest.mark.parametrize("side", [176, 208])
def test_ms_ssim_is_that_of_its_paper(side: int) -> None:
    prediction, target = pair(side, 192)
    *finer, coarsest = scales_of(prediction.clip(0, 1), target)
    values = [contrast for _, contrast in finer] + [coarsest[0]]
    expected = np.prod(np.power(values, [0.0448, 0.2856, 0.3001, 0.2363, 0.1333]))
    scores = slice_scores(batch(prediction), batch(target), batch(target) > 0)
    np.testing.assert_allclose(scores["ms_ssim_whole"], [expected], atol=1e-4)


def test_ms_ssim_is_absent_where_its_window_does_not_fit() -> None:
    image = torch.rand(1, 1, 175, 192)
    assert set(slice_scores(image, image, image > 0)) == set(SCORES)


def test_an_empty_mask_gives_nan() -> None:
    image = torch.rand(1, 1, 16, 16)
    nothing = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    assert ssim_brain(image, image, nothing).isnan().all()
    assert psnr_brain(image, image, nothing).isnan().all()


IMAGE = torch.zeros(2, 1, 16, 16)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ssim_map(IMAGE, IMAGE[:1]), r"must both be \(B, 1, W, H\), not \(2, 1, 16, 16\)"),
        (lambda: ssim_map(IMAGE[0], IMAGE[0]), r"must both be \(B, 1, W, H\), not \(1, 16, 16\)"),
        (lambda: ssim_brain(IMAGE, IMAGE, IMAGE[0] > 0), r"must have the images' shape \(2, 1,"),
        (lambda: psnr_brain(IMAGE, IMAGE[:1], IMAGE > 0), r"must have the same shape, not \(2, 1,"),
    ],
)
def test_wrong_shapes_are_named(call: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()  # type: ignore[operator]
