"""Faulty image sets: each has its fault, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from monai_vqbrain.metrics import faults


def images(count: int = 20, seed: int = 0, kind: type = np.uint8) -> np.ndarray:
    """Discs of random intensities."""
    x, y = np.indices((24, 32)) - np.array([11.5, 15.5])[:, None, None]
    values = np.random.default_rng(seed).integers(60, 200, (count, 24, 32)) * (x**2 + y**2 < 100)
    return values.astype(np.uint8) if kind is np.uint8 else (values / 255).astype(np.float32)


CHANGES: dict[str, Callable[..., np.ndarray]] = {
    "blur": faults.blur,
    "wrong_contrast": faults.wrong_contrast,
    "missing_parts": faults.missing_parts,
    "flips": faults.flips,
    "noise": faults.noise,
}


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("name", CHANGES)
def test_a_share_is_changed_the_rest_and_the_input_stay(name: str, kind: type) -> None:
    given = images(kind=kind)
    before = given.copy()
    found = CHANGES[name](given, share=0.25, seed=3)
    np.testing.assert_array_equal(given, before)
    assert found.dtype == given.dtype
    assert (found != given).any(axis=(1, 2)).sum() == 5
    np.testing.assert_array_equal(found, CHANGES[name](given, share=0.25, seed=3))
    assert (found != CHANGES[name](given, share=0.25, seed=4)).any()


def test_collapse_leaves_so_many_images() -> None:
    found = faults.mode_collapse(images(), kept=3)
    assert found.shape == images().shape
    assert len(np.unique(found, axis=0)) == 3


def test_collapse_keeps_each_image_near_its_position() -> None:
    place = np.tile(np.arange(5), 4)
    marked = np.broadcast_to(place[:, None, None].astype(np.uint8), (20, 4, 4))
    found = faults.mode_collapse(marked, kept=5, positions=place)
    np.testing.assert_array_equal(found[:, 0, 0], place)


def test_copies_are_training_images_of_the_same_position() -> None:
    training, place = images(8, seed=1), np.repeat([0.0, 1.0], 4)
    found = faults.copies(images(4), training, positions=(np.array([0.1, 0.2, 0.9, 1.4]), place))
    origin = [np.flatnonzero((training == image).all(axis=(1, 2))) for image in found]
    assert [int(number[0] >= 4) for number in origin] == [0, 0, 1, 1]


def test_half_copies_are_half() -> None:
    found = faults.copies(images(), images(5, seed=1), share=0.5)
    assert (found != images()).any(axis=(1, 2)).sum() == 10


def test_blur_smooths_and_keeps_the_mean() -> None:
    found = faults.blur(images(kind=np.float32), 1.5)
    assert found.mean() == pytest.approx(images(kind=np.float32).mean(), rel=0.02)
    assert (
        np.abs(np.diff(found, axis=1)).mean() < 0.5 * np.abs(np.diff(images() / 255, axis=1)).mean()
    )


def test_contrast_is_a_power() -> None:
    given = images(kind=np.float32)
    np.testing.assert_allclose(faults.wrong_contrast(given, 0.5), np.sqrt(given), rtol=1e-6)


def test_a_wedge_of_the_given_angle_is_missing() -> None:
    given = images()
    lost = 1 - (faults.missing_parts(given, 90) > 0).sum() / (given > 0).sum()
    assert lost == pytest.approx(0.25, abs=0.02)


def test_flips_are_along_the_first_side() -> None:
    np.testing.assert_array_equal(faults.flips(images(), 1.0), images()[:, ::-1])


def test_noise_leaves_the_background_black() -> None:
    given = images(200, kind=np.float32)
    added = faults.noise(given, 0.05) - given
    assert not added[given == 0].any()
    assert added[given > 0].std() == pytest.approx(0.05, rel=0.05)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: faults.mode_collapse(images(), 21), "kept must be 1 to 20 images, not 21"),
        (lambda: faults.blur(images(), share=2), "share must be 0 to 1, not 2"),
        (
            lambda: faults.copies(images(), images(kind=np.float32)),
            r"the same size and type, not \(24, 32\) uint8 and \(24, 32\) float32",
        ),
    ],
)
def test_what_cannot_be_is_named(call: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()  # type: ignore[operator]
