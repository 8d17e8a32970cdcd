"""The built-in cohort: brains with a known truth, the same from the same seed."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from monai_vqbrain.cohorts import assign_splits, make_phantom, read_cohort
from monai_vqbrain.cohorts.phantom import draw_participant
from monai_vqbrain.cohorts.phantom_anatomy import EXTENT, MOST, ORIGIN, load_anatomy
from monai_vqbrain.cohorts.phantom_brain import Body, Phantom, draw_body, phantom_brain
from monai_vqbrain.errors import UsageError


def brain(widening: float = 1.0, seed: int = 0, mm: float = 4.0, skull: bool = False) -> Phantom:
    body = draw_body(np.random.default_rng(seed))
    return phantom_brain(body, widening, np.random.default_rng(seed + 100), mm, skull)


def hashes(folder: Path) -> dict[str, str]:
    """Every file below, by its place, as the hash of its bytes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom") / "data"
    return make_phantom(out, participants=8, resolution_mm=6)


def test_the_templates_ventricles_are_found() -> None:
    ventricles = load_anatomy().ventricles > 0
    assert 14_000 < ventricles.sum() < 22_000  # mm3; young adults
    centre = np.argwhere(ventricles).mean(0) + ORIGIN
    assert np.abs(centre[0]) < 1.5  # mm, on the midline
    assert ventricles[:98].sum() / ventricles[99:].sum() == pytest.approx(1, abs=0.3)


def test_a_body_without_deformation_is_the_template() -> None:
    still = Body(np.eye(3, dtype=np.float32), ())
    phantom = phantom_brain(still, 0, np.random.default_rng(0), resolution_mm=2)
    template = load_anatomy().t1[::2, ::2, ::2][:98, :116, :94]
    inside = ndimage.binary_erosion(template > 0.3, iterations=2)
    assert np.corrcoef(phantom.volume[inside], template[inside])[0, 1] > 0.9
    truth = load_anatomy().ventricles.sum() / 1000
    assert phantom.ventricle_volume_ml == pytest.approx(truth, rel=0.03)


def test_the_background_and_nothing_else_is_zero() -> None:
    volume = brain(mm=2).volume
    assert volume.dtype == np.uint8
    assert 0.1 < (volume > 0).mean() < 0.3
    labels, _ = ndimage.label(volume > 0)
    assert np.bincount(labels.ravel())[1:].max() > 0.99 * (volume > 0).sum()
    assert volume.max() > 150
    edge = np.ones(volume.shape, bool)
    edge[1:-1, 1:-1, :-1] = False  # the template is cut off below
    assert not volume[edge].any()


@pytest.mark.parametrize("mm", [2.0, 3.0, 5.0])
def test_the_grid_is_true_millimetres(mm: float) -> None:
    phantom = brain(mm=mm)
    assert nib.aff2axcodes(phantom.affine) == ("R", "A", "S")
    assert np.allclose(np.diag(phantom.affine), [mm, mm, mm, 1])
    assert np.allclose(phantom.volume.shape, np.array(EXTENT) / mm, atol=1)
    middle = phantom.affine[:3, :3] @ ndimage.center_of_mass(phantom.volume) + phantom.affine[:3, 3]
    assert np.abs(middle - (0, -20, 5)).max() < 12  # mm; at 0 up to shape


@pytest.mark.parametrize("seed", range(3))
def test_widening_widens_evenly(seed: int) -> None:
    volumes = [brain(widening, seed).ventricle_volume_ml for widening in (0, 1, 2.5, 4, MOST)]
    assert all(later > 1.05 * earlier for earlier, later in pairwise(volumes))
    assert volumes[-1] > 2.2 * volumes[0]


def test_widening_leaves_what_is_far_away_where_it_was() -> None:
    body = draw_body(np.random.default_rng(0))
    narrow, wide = (
        phantom_brain(body, mm, np.random.default_rng(1), 2.0).volume.astype(int) for mm in (0, 4)
    )
    changed = np.argwhere(np.abs(wide - narrow) > 40) * 2 + ORIGIN
    assert len(changed) > 500
    assert np.abs(changed[:, 0]).max() < 60  # mm from the midline; the brain's rim is at 70
    assert changed[:, 2].min() > -45
    assert ((narrow > 0) == (wide > 0)).mean() > 0.999


def test_the_flow_does_not_fold() -> None:
    push = load_anatomy().push[4]
    for axis in range(3):
        assert np.gradient(push[axis], 2.0, axis=axis).min() > -1  # or else order along it is lost


def test_a_skull_is_a_bright_ring_around_a_dark_one_and_air_is_noise() -> None:
    head, bare = brain(skull=True, mm=2).volume, brain(mm=2).volume
    depth = ndimage.distance_transform_edt(bare == 0, sampling=2)
    bone, scalp = head[(depth > 6) & (depth < 8)], head[(depth > 11) & (depth < 13)]
    assert np.median(scalp) > 3 * np.median(bone)
    assert (head[depth > 25] > 0).mean() > 0.5  # no participant can take this for skull-stripped


@pytest.mark.parametrize(
    ("widening", "mm", "words"),
    [
        (-1, 2, "widening_mm is -1: choose 0 to 6"),
        (1, 0.1, "resolution_mm is 0.1: choose 0.5 to 8"),
    ],
)
def test_what_is_out_of_range_is_refused(widening: float, mm: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        brain(widening, mm=mm)


def test_group_and_age_say_something_of_the_ventricles_and_sessions_nothing() -> None:
    people = [draw_participant(0, number) for number in range(1, 201)]
    for group in ("CN", "AD"):
        mine = [p for p in people if p.group == group]
        ages, widening = np.array([(p.visits[0].age, p.visits[0].widening_mm) for p in mine]).T
        assert np.corrcoef(ages, widening)[0, 1] > 0.4
        assert sum(len(p.visits) == 2 for p in mine) == 25
        assert 0.35 < np.mean([p.sex == "F" for p in mine]) < 0.65
    narrowest_ad = min(p.visits[0].widening_mm for p in people if p.group == "AD")
    assert narrowest_ad > max(p.visits[0].widening_mm for p in people if p.group == "CN")
    again = [p.visits for p in people if len(p.visits) == 2]
    assert all(1 <= b.age - a.age <= 2.1 and b.widening_mm > a.widening_mm for a, b in again)
    assert max(visit.widening_mm for p in people for visit in p.visits) <= MOST


def test_the_dataset_is_read_as_simulated_bids(dataset: Path) -> None:
    cohort = read_cohort(dataset)
    assert cohort.layout == "bids"
    assert cohort.simulated
    assert cohort.problems == ()
    assert len(cohort.participants()) == 8
    assert [s.name for s in cohort.scans if s.session_id == "ses-02"] == [
        "sub-phantom07_ses-02",
        "sub-phantom08_ses-02",
    ]
    assert {scan.diagnosis for scan in cohort.scans} == {"CN", "AD"}
    assert all(scan.sex and scan.age for scan in cohort.scans)
    assert set(assign_splits(cohort.participants()).values()) == {"training", "validation", "test"}


def test_the_tables_hold_the_truth(dataset: Path) -> None:
    people = pd.read_csv(dataset / "participants.tsv", sep="\t")
    millilitres = people.groupby("group").ventricle_volume_ml
    assert millilitres.min()["AD"] > millilitres.mean()["CN"] * 1.2
    visits = pd.read_csv(dataset / "sub-phantom08" / "sub-phantom08_sessions.tsv", sep="\t")
    assert list(visits.session_id) == ["ses-01", "ses-02"]
    assert visits.ventricle_volume_ml.is_monotonic_increasing
    assert set(visits.diagnosis) == {"AD"}


def test_images_say_that_they_are_simulated(dataset: Path) -> None:
    image = nib.load(read_cohort(dataset).scans[0].path)
    assert b"simulated" in image.header["descrip"].item()
    assert np.allclose(image.header.get_zooms(), 6)
    assert image.get_sform(coded=True)[1] == image.get_qform(coded=True)[1] == 1
    assert "not valid for real participants" in (dataset / "README").read_text()


def test_the_same_seed_gives_the_same_bytes_and_fewer_people_the_first_ones(
    dataset: Path, tmp_path: Path
) -> None:
    fewer = hashes(make_phantom(tmp_path / "fewer", participants=3, resolution_mm=6))
    all_of_them = hashes(dataset)
    people = [name for name in fewer if name.startswith("sub-")]
    assert len(people) == 6  # an image and a table each
    assert {name: fewer[name] for name in people} == {name: all_of_them[name] for name in people}
    other = hashes(make_phantom(tmp_path / "other", participants=3, seed=1, resolution_mm=6))
    assert not {fewer[name] for name in people} & {other[name] for name in people}


def test_a_cohort_is_not_made_twice_but_made_anew_when_asked_otherwise(tmp_path: Path) -> None:
    out = make_phantom(tmp_path / "p", participants=2, resolution_mm=8)
    before = (out / "participants.tsv").stat().st_mtime_ns
    make_phantom(out, participants=2, resolution_mm=8)
    assert (out / "participants.tsv").stat().st_mtime_ns == before
    make_phantom(out, participants=1, resolution_mm=8)
    assert len(read_cohort(out).scans) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"participants": 0}, "participants is 0: choose 1 or more"),
        ({"resolution_mm": 20}, "resolution_mm is 20: choose 0.5 to 8"),
        ({"second_sessions": 25}, "second_sessions is 25: choose 0 to 1"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, options: dict[str, int], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make_phantom(tmp_path / "p", **options)


def test_nothing_but_a_simulated_cohort_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(
        UsageError, match="contains something else than a simulated cohort: name a new"
    ):
        make_phantom(tmp_path, participants=1)
    assert (tmp_path / "thesis.txt").exists()
