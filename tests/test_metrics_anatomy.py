"""Anatomy of slices: drawn brains of known areas, the simulated cohort, SciPy and NumPy."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from monai_vqbrain.cohorts import make_phantom
from monai_vqbrain.metrics import anatomy, anatomy_comparison as comparison, faults
from monai_vqbrain.metrics.anatomy import UNITS, Measures, fit_tissues, measure_anatomy
from monai_vqbrain.metrics.anatomy_comparison import compare_anatomy, slope_on, wasserstein

SPACING = (2.0, 2.0)


def drawn(
    count: int = 8, outer: float = 22, white: float = 14, ventricle: float = 5, seed: int = 0
) -> np.ndarray:
    """(N, 64, 64) float32: CSF at 0.2 within white matter at 0.8 within grey matter at 0.5."""
    rng = np.random.default_rng(seed)
    x, y = np.indices((64, 64)) - 31.5
    radius = np.hypot(x, y)
    image = np.select([radius <= ventricle, radius <= white, radius <= outer], [0.2, 0.8, 0.5])
    noise = 0.03 * rng.standard_normal((count, 64, 64))
    return np.where(image > 0, image + noise, 0).clip(0, 1).astype(np.float32)


def measured(images: np.ndarray, **options: object) -> Measures:
    return measure_anatomy(images, SPACING, fit_tissues(drawn()), **options)  # type: ignore[arg-type]


def circle(radius: float) -> float:
    return float(np.pi * (radius * 0.2) ** 2)  # cm^2 at 2 mm


def test_tissues_are_found_in_ascending_order() -> None:
    tissues = fit_tissues(drawn())
    np.testing.assert_allclose(tissues.means, [0.2, 0.5, 0.8], atol=0.02)
    np.testing.assert_allclose(tissues.shares.sum(), 1, rtol=1e-5)


def test_known_areas_and_fractions_are_measured() -> None:
    found = measured(drawn())
    assert set(found) == set(UNITS)
    np.testing.assert_allclose(found["brain_area"], circle(22), rtol=0.02)
    np.testing.assert_allclose(found["ventricle_area"], circle(5), rtol=0.1)
    for name, area in {
        "csf_fraction": circle(5),
        "white_fraction": circle(14) - circle(5),
        "grey_fraction": circle(22) - circle(14),
    }.items():
        np.testing.assert_allclose(found[name], area / circle(22), atol=0.015)


def test_fractions_sum_to_one() -> None:
    found = measured(drawn())
    total = sum(found[f"{tissue}_fraction"] for tissue in ("csf", "grey", "white"))
    np.testing.assert_allclose(total, 1, rtol=1e-4)


def test_fluid_outside_the_central_part_is_no_ventricle() -> None:
    shifted = drawn(ventricle=0)
    shifted[:, 47:51, 30:34] = 0.2  # 17 pixels from the middle of a brain of radius 22
    found = measured(shifted)
    assert (found["csf_fraction"] * found["brain_area"] > 0.4).all()
    assert (found["ventricle_area"] < 0.1).all()


def test_floats_and_their_bytes_measure_alike() -> None:
    images = drawn()
    whole = measured((images * 255).round().astype(np.uint8))
    for name, values in measured(images).items():
        np.testing.assert_array_equal(values, whole[name])


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measured(drawn())
    monkeypatch.setattr(anatomy, "CHUNK", 3)
    for name, values in measured(drawn()).items():
        np.testing.assert_allclose(values, whole[name], rtol=1e-5)


def test_a_slice_that_is_brighter_as_a_whole_has_the_same_tissues() -> None:
    plain, brighter = measured(drawn()), measured(drawn() * 1.1)
    for name in ("csf_fraction", "grey_fraction", "white_fraction"):
        np.testing.assert_allclose(brighter[name], plain[name], atol=0.02)


def test_noise_and_blur_lower_the_contrast() -> None:
    images = drawn(seed=1)
    plain = measured(images)["contrast"].mean()
    assert measured(faults.noise(images, 0.08))["contrast"].mean() < 0.7 * plain
    assert measured(faults.blur(images, 1.5))["contrast"].mean() < 0.9 * plain


def test_asymmetry_grows_with_a_missing_part_and_not_by_mirroring() -> None:
    images = drawn()
    plain = measured(images)["asymmetry"]
    np.testing.assert_allclose(measured(images[:, ::-1])["asymmetry"], plain, atol=0.01)
    images[:, 40:, 20:40] = 0
    assert (measured(images)["asymmetry"] > 3 * plain).all()


def test_asymmetry_follows_a_brain_that_is_not_in_the_middle() -> None:
    images = drawn()
    moved = measured(np.roll(images, 7, axis=1))["asymmetry"]
    np.testing.assert_allclose(moved, measured(images)["asymmetry"], atol=0.01)


def test_sagittal_slices_have_no_left_and_right() -> None:
    assert np.isnan(measured(drawn(), axis="sagittal")["asymmetry"]).all()


def test_connected_parts_are_counted_without_specks() -> None:
    images = drawn(count=2, outer=12, white=8, ventricle=3)
    images[1, 50:58, 50:58] = 0.5
    images[1, 4, 4] = 0.5  # 0.04 cm^2
    found = measured(images)
    np.testing.assert_array_equal(found["parts"], [1, 2])
    assert found["largest_part"][0] == 1
    assert 0.8 < found["largest_part"][1] < 0.9


def test_a_black_slice_has_no_area_and_no_tissue() -> None:
    found = measured(np.zeros((1, 64, 64), np.float32))
    zero = {name for name, values in found.items() if values[0] == 0}
    assert zero == {"brain_area", "ventricle_area", "parts"}
    assert all(np.isnan(found[name][0]) for name in set(UNITS) - zero)


def test_no_slices_give_no_values() -> None:
    assert all(len(values) == 0 for values in measured(drawn()[:0]).values())


@pytest.mark.slow
def test_ventricle_area_follows_the_true_volume_of_simulated_brains(tmp_path: Path) -> None:
    cohort = make_phantom(tmp_path / "data", 24, resolution_mm=3, second_sessions=0)
    table = pd.read_csv(cohort / "participants.tsv", sep="\t")
    images, owner = [], []
    for number, participant in enumerate(table["participant_id"]):
        file = next((cohort / participant).rglob("*_T1w.nii.gz"))
        volume = nib.load(file).get_fdata()  # type: ignore[attr-defined]
        levels = np.flatnonzero(volume.any(axis=(0, 1)))
        middle = range(levels[0] + len(levels) // 4, levels[-1] - len(levels) // 6)
        scale = np.percentile(volume[volume > 0], 99.5)
        images += [volume[..., level] / scale for level in middle]
        owner += [number] * len(middle)
    stack = np.stack(images)
    found = measure_anatomy(stack, (3, 3), fit_tissues(stack))["ventricle_area"]
    volumes = np.bincount(owner, found) * 0.3  # ml
    assert stats.spearmanr(volumes, table["ventricle_volume_ml"]).statistic > 0.8


def test_priors_bring_the_tissues_of_the_template() -> None:
    from nilearn import datasets

    load = (datasets.load_mni152_template, datasets.load_mni152_gm_template,
            datasets.load_mni152_wm_template)  # fmt: skip
    t1, grey, white = (np.moveaxis(f(resolution=2).get_fdata(), 2, 0)[36:50] for f in load)
    priors = np.stack([(1 - grey - white).clip(0, 1), grey, white], axis=-1)
    images, place = (t1 / t1.max()).astype(np.float32), np.arange(14)
    tissues = fit_tissues(images)
    plain = measure_anatomy(images, SPACING, tissues)
    found = measure_anatomy(images, SPACING, tissues, priors=priors, position=place)
    brain = anatomy.brain_masks(images)
    truth = (priors * brain[..., None]).sum(axis=(1, 2)) / brain.sum(axis=(1, 2))[:, None]
    columns = ("csf_fraction", "grey_fraction", "white_fraction")
    error, without = (
        np.abs(np.stack([f[name] for name in columns], axis=1) - truth).mean(axis=0)
        for f in (found, plain)
    )
    assert error.max() < 0.06
    assert error.sum() < 0.5 * without.sum()
    np.testing.assert_allclose(
        found["csf_fraction"] + found["grey_fraction"] + found["white_fraction"], 1, rtol=1e-4
    )


# Comparison


def numbers(rng: np.random.Generator, people: int, each: int, shift: float = 0) -> np.ndarray:
    """(participants * each,): participants differ by 1 standard deviation, their slices by 0.3."""
    return np.repeat(rng.normal(shift, 1, people), each) + rng.normal(0, 0.3, people * each)


def names(people: int, each: int) -> list[str]:
    return [f"p{number}" for number in range(people) for _ in range(each)]


def test_wasserstein_equals_scipys_with_weights() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(0, 1, 30), rng.integers(0, 4, 50).astype(float)
    weights, others = rng.integers(0, 3, (5, 30)), rng.integers(0, 3, (5, 50))
    found = wasserstein(one, other, weights, others)
    for value, w, v in zip(found, weights, others, strict=True):
        assert value == pytest.approx(stats.wasserstein_distance(one, other, w, v))


def test_one_bin_is_the_plain_standardised_difference() -> None:
    rng = np.random.default_rng(0)
    real, fake = numbers(rng, 10, 5), numbers(rng, 80, 1, 0.5)
    whole, only = compare_anatomy({"area": real}, {"area": fake}, names(10, 5))["area"]
    for field, value in dataclasses.asdict(whole).items():
        assert value == pytest.approx(dataclasses.asdict(only)[field])
    assert whole.difference == pytest.approx((fake.mean() - real.mean()) / real.std(), rel=1e-5)
    assert whole.wasserstein == pytest.approx(stats.wasserstein_distance(real, fake), rel=1e-5)
    assert whole.difference_low < whole.difference < whole.difference_high
    assert whole.wasserstein_low <= whole.wasserstein <= whole.wasserstein_high
    assert (whole.images_real, whole.images_synthetic, whole.participants) == (50, 80, 10)


def test_other_positions_are_no_other_anatomy() -> None:
    rng = np.random.default_rng(0)
    place, other = np.tile(np.arange(4), 20), np.repeat([0, 1, 2, 3], [50, 10, 10, 10])
    real, fake = 10 * place + rng.normal(0, 1, 80), 10 * other + rng.normal(0, 1, 80)
    blind = compare_anatomy({"x": real}, {"x": fake}, names(20, 4))["x"][0]
    told = compare_anatomy({"x": real}, {"x": fake}, names(20, 4), (place, other), bins=4)["x"]
    assert blind.difference_high < -0.3
    assert told[0].difference_low < 0 < told[0].difference_high
    assert [bin_.images_synthetic for bin_ in told] == [80, 50, 10, 10, 10]


def test_slices_of_few_participants_are_no_slices_of_many() -> None:
    rng = np.random.default_rng(0)
    fake = {"x": numbers(rng, 500, 1)}
    few = compare_anatomy({"x": numbers(rng, 20, 25)}, fake, names(20, 25))["x"][0]
    many = compare_anatomy({"x": numbers(rng, 500, 1)}, fake, names(500, 1))["x"][0]
    wide, narrow = (d.difference_high - d.difference_low for d in (few, many))
    assert wide > 2 * narrow


def test_the_interval_of_equal_sets_mostly_holds_zero() -> None:
    held = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        real, fake = {"x": numbers(rng, 30, 4)}, {"x": numbers(rng, 120, 1)}
        found = compare_anatomy(real, fake, names(30, 4), draws=200)["x"][0]
        held += found.difference_low <= 0 <= found.difference_high
    assert held >= 34


def test_a_measure_that_never_varies_has_no_standardised_difference() -> None:
    found = compare_anatomy({"parts": np.ones(4)}, {"parts": np.ones(3)}, names(4, 1))["parts"][0]
    assert np.isnan(found.difference)
    assert found.wasserstein == 0
    assert found.as_json()["difference"] is None


def test_positions_without_samples_are_left_out_of_the_mean() -> None:
    real, place = np.arange(8.0), np.repeat([0, 1], 4)
    found = compare_anatomy(
        {"x": real}, {"x": np.array([2.0, np.nan])}, names(8, 1), (place, np.array([0, 1])), bins=2
    )["x"]
    assert np.isnan(found[2].difference)
    assert found[0].difference == found[1].difference


def test_the_same_seed_gives_the_same_interval() -> None:
    rng = np.random.default_rng(0)
    sets = {"x": numbers(rng, 10, 5)}, {"x": numbers(rng, 50, 1)}
    same = [compare_anatomy(*sets, names(10, 5), seed=seed)["x"] for seed in (3, 3, 4)]
    assert same[0] == same[1] != same[2]


def test_a_slope_is_least_squares_with_an_intercept_per_position() -> None:
    rng = np.random.default_rng(0)
    place, age = np.tile([0, 1, 2], 30), np.repeat(rng.uniform(20, 80, 30), 3)
    area = 0.05 * age + 4 * place + rng.normal(0, 0.5, 90)
    found = slope_on(area, age, names(30, 3), place)
    design = np.column_stack([age, *(place == number for number in range(3))]).astype(float)
    assert found.slope == pytest.approx(np.linalg.lstsq(design, area, rcond=None)[0][0])
    assert found.low < 0.05 < found.high
    assert (found.images, found.groups) == (90, 30)


def test_positions_that_go_with_age_are_no_slope() -> None:
    rng = np.random.default_rng(0)
    place = np.repeat([0, 1], 50)
    age, area = 30.0 + 20 * place + rng.normal(0, 5, 100), 5.0 * place + rng.normal(0, 1, 100)
    assert slope_on(area, age, names(100, 1)).low > 0.1
    held = slope_on(area, age, names(100, 1), place)
    assert held.low < 0 < held.high


def test_draws_in_which_all_real_slices_are_equal_make_no_interval_of_billions() -> None:
    parts = np.ones(40)
    parts[-1] = 2  # of one participant, whom many draws leave out
    found = compare_anatomy({"parts": parts}, {"parts": np.full(30, 3.0)}, names(10, 4))
    assert found["parts"][0].difference_low > 0
    assert found["parts"][0].difference_high < 20


@pytest.mark.parametrize("asked", [np.full(6, 40.0), np.full(6, np.nan)])
def test_what_was_asked_must_vary(asked: np.ndarray) -> None:
    assert np.isnan(slope_on(np.arange(6.0), asked, names(6, 1)).slope)


def test_the_bins_hold_about_equally_many_real_slices() -> None:
    place = np.random.default_rng(0).exponential(1, 400)
    real, _ = comparison.position_bins(place, place, 8)
    assert set(np.bincount(real)) == {50}


PRIORS = np.ones((2, 64, 64, 3))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: measured(drawn()[0]), r"shape \(N, W, H\), not \(64, 64\)"),
        (lambda: measure_anatomy(drawn(), (1, 0), fit_tissues(drawn())), "sizes above 0 mm"),
        (lambda: measured(drawn(), axis="oblique"), "axial, coronal or sagittal, not 'oblique'"),
        (lambda: measured(drawn(), priors=PRIORS), "the position of each slice among them"),
        (
            lambda: measured(drawn(), priors=PRIORS[:, :9], position=np.zeros(8, int)),
            r"priors must have the shape \(P, 64, 64, 3\)",
        ),
        (
            lambda: measured(drawn(), priors=PRIORS, position=np.zeros(7, int)),
            "a position for each of 8 slices, not 7",
        ),
        (lambda: fit_tissues(np.zeros((2, 9, 9))), "fewer than three intensities"),
        (
            lambda: compare_anatomy({"a": [1]}, {"b": [1]}, ["p"]),
            r"the same measures of both sets, not \['a'\] and \['b'\]",
        ),
        (lambda: compare_anatomy({"a": [1]}, {"a": [1]}, []), "0 participants"),
        (
            lambda: compare_anatomy({"a": [1]}, {"a": [1]}, ["p"], ([1], [1, 2])),
            "a position for each of 1 real slices and 1 samples, not 1 and 2",
        ),
        (lambda: slope_on([1, 2], [1], ["p", "q"]), "not 2, 1, 2 and 2"),
    ],
)
def test_what_cannot_be_is_named(call: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()  # type: ignore[operator]
