"""The ruler on whole sets of images: two folders, a run, and known faults."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from monai_vqbrain.errors import UsageError, VQBrainError
from monai_vqbrain.metrics import faults
from monai_vqbrain.metrics.detectability import DetectorProtocol
from monai_vqbrain.stages.evaluate import evaluate_images
from monai_vqbrain.stages.reporting import ruler
from monai_vqbrain.stages.reporting.image_folders import folder_comparison, read_images
from monai_vqbrain.stages.reporting.image_sets import Comparison, ImageSet
from monai_vqbrain.stages.reporting.scorecard import scorecard
from monai_vqbrain.stages.reporting.utility import measure_utilities
from monai_vqbrain.stages.reporting.verdict import privacy_verdict

SIZE = 48
NAMES = (
    "distribution.kid.random.value", "distribution.kid.random.floor", "distribution.kid.random.low",
    "distribution.kid.texture.high", "distribution.coverage.random", "detectability.auc",
    "detectability.low", "detectability.high", "detectability.control", "anatomy.brain_area",
    "anatomy.implausible_share", "anatomy.implausible_share_real", "anatomy.mirrored_share",
    "anatomy.mirrored_real_share", "audit.copies.share",
)  # fmt: skip


def brains(participants: int, slices: int, seed: int) -> ImageSet:
    """Simulated slices: an outline, tissue and ventricles that differ between participants."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(*[np.linspace(-1, 1, SIZE)] * 2, indexing="ij")
    images, names = [], []
    for person in range(participants):
        a, b, v, phase = rng.uniform((0.6, 0.7, 0.1, 0), (0.75, 0.9, 0.3, 6))
        for k in range(slices):
            inside = (x / a) ** 2 + (y / b) ** 2 < 1 - 0.05 * k
            folds = 0.55 + 0.2 * np.sin(9 * x + phase) * np.cos(8 * y - phase + k)
            noise = rng.normal(0, 0.02, x.shape)
            tissue = np.where(np.hypot(x * 1.5, y) < v, 0.18, folds) + noise
            images.append(np.where(inside, (255 * tissue).clip(30, 255), 0).astype(np.uint8))
            names.append(f"s{seed}-{person}")
    return ImageSet(np.stack(images), pd.DataFrame({"participant_id": names}))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer steps of the detector: what it finds is tested with it."""
    few = DetectorProtocol(steps=20, batch=8)
    for name in ("detectability", "detectability_control"):
        test = getattr(ruler, name)
        monkeypatch.setattr(ruler, name, lambda *sets, test=test: test(*sets[:4], (0,), few))


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    sets = [brains(people, 3, seed) for people, seed in ((14, 0), (8, 1), (10, 2))]
    return Comparison(*sets, spacing=3.0)


def at(figures: dict, name: str) -> object:
    for part in name.split("."):
        figures = figures[part]
    return figures


def test_every_figure_has_its_name_and_is_json(comparison: Comparison) -> None:
    figures, matches = ruler.measure(comparison)
    assert figures["protocol"] == "vqbrain-eval-1"
    assert matches is not None
    assert len(matches) == len(comparison.synthetic)
    for name in NAMES:
        assert at(figures, name) is not None, name
    json.dumps(figures, allow_nan=False)
    assert figures["images"]["distribution_images"] == 24  # as many as there are held out
    assert "s0-1" not in json.dumps(figures)  # no participant


def test_planted_copies_raise_the_alarm_and_no_other_set_does(comparison: Comparison) -> None:
    training, clean = comparison.training, comparison.synthetic
    copied = ImageSet(training.images[: len(clean)], clean.about)
    share = {}
    for name, samples in {"clean": clean, "copies": copied}.items():
        sets = Comparison(training, comparison.held_out, samples, spacing=3.0)
        share[name] = ruler.measure_copies(sets)[0]["share"]
    assert share["clean"] < 0.2
    assert share["copies"] == 1


@pytest.mark.parametrize(
    ("fault", "moved"),
    [
        (lambda images: faults.blur(images, 1.5), "contrast"),
        (faults.missing_parts, "asymmetry"),
        (faults.wrong_contrast, "intensity_mean"),
    ],
)
def test_faults_of_anatomy_move_their_measure(
    comparison: Comparison, fault: object, moved: str
) -> None:
    clean = comparison.synthetic
    broken = ImageSet(fault(clean.images), clean.about)  # type: ignore[operator]
    both = [
        ruler.measure_anatomy_of(
            Comparison(comparison.training, comparison.held_out, samples, spacing=3.0)
        )
        for samples in (clean, broken)
    ]
    assert abs(both[1][moved]["difference"]) > abs(both[0][moved]["difference"]) + 0.3


def test_mode_collapse_lowers_coverage(comparison: Comparison) -> None:
    clean = comparison.synthetic
    collapsed = ImageSet(faults.mode_collapse(clean.images, kept=2), clean.about)
    coverage = []
    for samples in (clean, collapsed):
        sets = Comparison(comparison.training, comparison.held_out, samples)
        equal = ruler.equal_sets(sets, seed=0)
        found = ruler.measure_distribution(equal, {"random": ruler.SPACES["random"]})
        coverage.append(found["coverage"]["random"])
    assert coverage[1] < 0.5 * coverage[0]


def test_ceilings_are_of_few_images_and_say_how_many(
    comparison: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    spaces = {"texture": ruler.SPACES["texture"]}
    equal = ruler.equal_sets(comparison, seed=0)
    every = ruler.measure_distribution(equal, spaces)["kid"]["texture"]["ceilings"]
    monkeypatch.setattr(ruler, "CEILING_IMAGES", 12)
    few = ruler.measure_distribution(equal, spaces)["kid"]["texture"]["ceilings"]
    assert (every["images"], few["images"]) == (24, 12)
    for name in ("noise", "blur"):
        assert few[name] == pytest.approx(every[name], rel=0.1)


def test_too_few_images_are_said(comparison: Comparison) -> None:
    few = comparison.synthetic.take(np.arange(4))
    sets = Comparison(comparison.training, comparison.held_out, few)
    figures, matches = ruler.measure(sets)
    assert matches is None
    assert "at least 10 images in each set and 2 participants" in figures["not_measured"]
    assert {row.answer for row in scorecard(figures)[:5]} == {"Not measured."}


@pytest.fixture
def folders(comparison: Comparison, tmp_path: Path) -> tuple[Path, Path, Path]:
    """Real images as PNG with a table, synthetic ones as NIfTI."""
    real, synthetic, table = tmp_path / "real", tmp_path / "synthetic", tmp_path / "people.csv"
    real.mkdir()
    synthetic.mkdir()
    rows = ["image,participant_id"]
    for i, image in enumerate(comparison.training.images):
        Image.fromarray(np.rot90(image)).save(real / f"i{i}.png")
        rows.append(f"i{i},{comparison.training.participants[i]}")
    table.write_text("\n".join(rows))
    for i, image in enumerate(comparison.synthetic.images):
        nifti = nib.Nifti1Image((image / 255).astype(np.float32)[..., None], np.eye(4))
        nib.save(nifti, synthetic / f"s{i}.nii.gz")
    return real, synthetic, table


def test_two_folders_are_read_alike(
    folders: tuple[Path, Path, Path], comparison: Comparison
) -> None:
    real, synthetic, table = folders
    read = folder_comparison(real, synthetic, table)
    assert len(read.training) + len(read.held_out) == len(comparison.training)
    assert not set(read.training.participants) & set(read.held_out.participants)
    assert read.notes == ()
    images = {image.tobytes() for image in read.synthetic.images}
    assert images == {image.tobytes() for image in comparison.synthetic.images}


def test_two_folders_leave_figures_and_a_report(
    folders: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    real, synthetic, table = folders
    page = evaluate_images(real, synthetic, tmp_path / "out", participants=table)
    figures = json.loads((page.parent / "metrics.json").read_text())
    for name in NAMES:
        assert at(figures, name) is not None, name
    text = page.read_text()
    for words in ("Can the samples be distinguished from real slices?", "Privacy audit", "Verdict"):
        assert words in text
    assert "http" not in text.replace("http-equiv", "")
    assert "s0-1" not in text
    with pytest.raises(VQBrainError, match="exists and is not an evaluation"):
        evaluate_images(real, synthetic, real)


def test_without_a_table_that_is_said(
    folders: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    read = folder_comparison(*folders[:2], None)
    assert "the participants of the real images are unknown" in read.notes[0]
    assert "give --participants TABLE" in capsys.readouterr().err


def test_folders_that_cannot_be_used_are_named(
    folders: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    real, synthetic, table = folders
    with pytest.raises(UsageError, match="nowhere is not a folder"):
        read_images(tmp_path / "nowhere", {})
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="has no PNG, JPEG, TIFF or NIfTI image"):
        read_images(tmp_path / "empty", {})
    table.write_text("file,who\na,b\n")
    with pytest.raises(UsageError, match="needs the columns image and participant_id; it has"):
        folder_comparison(real, synthetic, table)
    Image.fromarray(np.zeros((9, 7), np.uint8)).save(synthetic / "z.png")
    with pytest.raises(VQBrainError, match="z.png has 7x9 pixels, the others 48x48: resample"):
        folder_comparison(real, synthetic, None)
    (real / "a.png").write_bytes(b"no picture")
    with pytest.raises(VQBrainError, match="a.png cannot be opened"):
        read_images(real, {})


@pytest.mark.parametrize("form", ["16-bit PNG", "int16 NIfTI", "float NIfTI in [0, 1]"])
def test_deeper_images_keep_their_brightness_beside_one_another(form: str, tmp_path: Path) -> None:
    dark, bright = np.full((2, 16, 16), 100), np.full((2, 16, 16), 200)
    bright[0, 0, 0] = 255
    for name, stack in (("dark", dark), ("bright", bright)):
        if form == "16-bit PNG":
            Image.fromarray((stack[0] * 257).astype(np.uint16)).save(tmp_path / f"{name}.png")
        else:
            values = (stack[0] * 16).astype(np.int16)
            if form.startswith("float"):
                values = (stack[0] / 255).astype(np.float32)
            nib.save(nib.Nifti1Image(values[..., None], np.eye(4)), tmp_path / f"{name}.nii.gz")
    read = read_images(tmp_path, {})
    assert sorted(np.median(read.images, axis=(1, 2)).tolist()) == [100, 200]


def test_values_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    values = np.full((8, 8, 1), np.nan, np.float32)
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(VQBrainError, match="a.nii has values that are not finite"):
        read_images(tmp_path, {})


def test_volumes_of_four_dimensions_are_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones((8, 8, 3, 2), np.float32), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(VQBrainError, match=r"a.nii has the shape \(8, 8, 3, 2\): give slices or"):
        read_images(tmp_path, {})


def test_a_table_of_other_names_is_refused_and_gaps_are_said(
    folders: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    real, synthetic, table = folders
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[:-2]))
    folder_comparison(real, synthetic, table)
    assert "2 of 42 images in" in capsys.readouterr().err
    table.write_text("image,participant_id\nI0.PNG,a")
    with pytest.raises(UsageError, match=r"names I0.PNG and others, but none of its images, such"):
        folder_comparison(real, synthetic, table)


def test_folders_that_share_images_are_refused(folders: tuple[Path, Path, Path]) -> None:
    real, synthetic, _ = folders
    for pair in ((real, real), (real.parent, synthetic), (real, real.parent)):
        with pytest.raises(UsageError, match="the same or nested folders: give two separate"):
            folder_comparison(*pair, None)


def test_a_volume_gives_its_slices_with_brain(tmp_path: Path) -> None:
    volume = np.zeros((16, 16, 5), np.uint8)
    volume[2:12, 2:12, 1:4] = 99
    nib.save(nib.Nifti1Image(volume, np.eye(4)), tmp_path / "v.nii")
    read = read_images(tmp_path, {})
    assert len(read) == 3
    assert read.positions.tolist() == [0.25, 0.5, 0.75]


def asked_for(images: ImageSet, ages: np.ndarray, sexes: np.ndarray) -> ImageSet:
    """The slices, each with what it was asked for, or its participant's own."""
    return ImageSet(images.images, images.about.assign(age=ages, sex=sexes, diagnosis=None))


def test_slopes_on_age_stand_beside_those_of_real_participants(comparison: Comparison) -> None:
    sets = []
    for number, images in enumerate(comparison.sets):
        area = (images.images > 0).mean(axis=(1, 2))
        noise = np.random.default_rng(number).normal(0, 1, len(images))
        ages = 100 * area + noise if number < 2 else noise + 60  # samples do not follow their age
        sets.append(asked_for(images, ages, np.full(len(images), "F")))
    found = ruler.measure_anatomy_of(Comparison(*sets, spacing=3.0))["slopes"]
    assert set(found) == {"age"}
    slopes = found["age"]["measures"]["brain_area"]
    assert slopes["real"]["low"] > 0
    assert slopes["synthetic"]["low"] < 0 < slopes["synthetic"]["high"]
    assert slopes["synthetic"]["images"] == len(comparison.synthetic)


def test_utility_needs_samples_of_every_class_and_a_task_above_chance(
    comparison: Comparison,
) -> None:
    def sexes(images: ImageSet) -> np.ndarray:
        return np.where(np.unique(images.participants, return_inverse=True)[1] % 2, "F", "M")

    sets = [asked_for(s, np.full(len(s), np.nan), sexes(s)) for s in comparison.sets]
    found = measure_utilities(Comparison(*sets))
    assert "fewer than two groups" in found["diagnosis"]["why"]
    assert "fewer than two groups" in found["age band"]["why"]
    assert found["sex"]["classes"] == ["F", "M"]
    assert not found["sex"]["measurable"]  # sexes were dealt at random
    assert "at chance (AUC" in found["sex"]["why"]
    nothing = ImageSet(comparison.synthetic.images, comparison.synthetic.about)
    found = measure_utilities(Comparison(sets[0], sets[1], nothing))
    assert "fewer than 8 samples have the requested sex F" in found["sex"]["why"]


def test_tables_of_both_folders_give_ages_and_what_was_asked(
    folders: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    real, synthetic, table = folders
    rows = [line.split(",") for line in table.read_text().splitlines()]
    rows = [[*rows[0], "Age", "gender"], *([*row, "61", "female"] for row in rows[1:])]
    table.write_text("\n".join(",".join(row) for row in rows))
    asked = tmp_path / "asked.tsv"
    asked.write_text("image\tdiagnosis\tage\ns0\tDementia\t77\ns1.nii.gz\tCN\t\n")
    read = folder_comparison(real, synthetic, table, asked)
    assert set(read.training.numbers("age")) == {61.0}
    assert set(read.held_out.labels("sex")) == {"F"}
    by_name = read.synthetic.about.set_index("participant_id")
    assert by_name.loc["s0.nii.gz", ["diagnosis", "age"]].tolist() == ["AD", 77]
    assert by_name.loc["s1.nii.gz", "diagnosis"] == "CN"
    assert by_name["age"].notna().sum() == 1
    asked.write_text("name\nx\n")
    with pytest.raises(UsageError, match="needs the columns image; it has: name"):
        folder_comparison(real, synthetic, table, asked)


AUDIT = {
    "copies": {"share": 0.02, "low": 0.0, "high": 0.04},
    "membership": {"auc": 0.7, "low": 0.6, "high": 0.8, "dataset_p_value": 0.001},
}


def test_the_verdict_claims_no_anonymity() -> None:
    text = privacy_verdict(AUDIT)
    assert "no more than expected by chance" in text
    assert "Treat the networks as personal data" in text
    assert "No finding here shows that samples or networks are anonymous" in text
    worse = AUDIT | {"copies": {"share": 0.3, "low": 0.2, "high": 0.4}}
    assert "more than expected by chance: inspect the pairs" in privacy_verdict(worse)
    better = {"auc": 0.5, "low": 0.4, "high": 0.6, "dataset_p_value": 0.5}
    assert "does not distinguish training participants" in privacy_verdict(
        AUDIT | {"membership": better}
    )


def test_the_scorecard_asks_in_the_readers_order() -> None:
    rows = scorecard({
        "detectability": {"auc": 0.7, "low": 0.65, "high": 0.75, "control": 0.5},
        "distribution": {"coverage_interval": {"random": {
            "value": 0.5, "low": 0.4, "high": 0.6, "floor": 0.9}}},
        "anatomy": {"implausible_share": 0.1, "implausible_share_real": 0.09},
        "audit": AUDIT,
        "images": {"training_participants": 34, "training": 544},
    })  # fmt: skip
    assert [row.section for row in rows] == [
        "detectability", "distribution", "anatomy", "privacy", "", "participants",
    ]  # fmt: skip
    assert [row.good for row in rows] == [False, False, True, False, None, None]
    assert "AUC 0.70 (0.65 to 0.75); 0.5 is chance; real against real participants 0.50" in (
        rows[0].figure
    )
    assert rows[-1].answer == "34 participants, 544 slices."
