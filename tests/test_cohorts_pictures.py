"""AD_NC's JPEGs and OASIS' PNGs: files of those names."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from monai_vqbrain.cohorts import assign_splits, read_cohort
from monai_vqbrain.errors import UsageError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def ad_nc(root: Path) -> Path:
    """Twelve ids in train, four in test, three slices each, numbered beyond 100."""
    names = []
    for number in range(16):
        folder = f"AD_NC/{'test' if number > 11 else 'train'}/{'AD' if number % 2 else 'NC'}"
        names += [f"{folder}/{218000 + number}_{index}.jpeg" for index in (99, 100, 101)]
    return touch(root, *names)


@pytest.mark.parametrize("place", ["", "AD_NC"])
def test_an_id_is_a_scan_its_slices_in_the_order_of_numbers(tmp_path: Path, place: str) -> None:
    cohort = read_cohort(ad_nc(tmp_path) / place)
    assert (cohort.layout, cohort.problems, len(cohort.scans)) == ("ad_nc", (), 16)
    scan = cohort.scans[13]
    assert (scan.participant_id, scan.diagnosis, scan.split) == ("218013", "AD", "test")
    assert [path.name for path in scan.files] == [f"218013_{i}.jpeg" for i in (99, 100, 101)]
    assert scan.form == "pictures"
    assert "the ids of AD_NC number images, not participants" in cohort.notes[0]


def test_test_stays_test_and_validation_comes_from_train(tmp_path: Path) -> None:
    cohort = read_cohort(ad_nc(tmp_path))
    splits = assign_splits(cohort.participants(), given=cohort.given_splits())
    assert {who for who, split in splits.items() if split == "test"} == {
        f"{218000 + number}" for number in range(12, 16)
    }
    assert Counter(splits.values()) == {"training": 10, "validation": 2, "test": 4}


def test_an_id_in_both_folders_is_tested_and_not_trained_on(tmp_path: Path) -> None:
    touch(ad_nc(tmp_path), "AD_NC/train/AD/218013_5.jpeg")
    cohort = read_cohort(tmp_path)
    assert [scan.split for scan in cohort.scans if scan.participant_id == "218013"] == ["test"]
    (problem,) = cohort.problems
    assert problem.path == "AD_NC/train/AD/218013_5.jpeg"
    assert problem.problem == "218013 is also in AD_NC/test/AD, which was used"


def test_oasis_keeps_its_three_splits(tmp_path: Path) -> None:
    folders = {"train": "001", "validate": "402", "test": "441"}
    touch(tmp_path, *(f"data/keras_png_slices_{folder}/case_{case}_slice_{index}.nii.png"
                      for folder, case in folders.items() for index in (10, 2)))  # fmt: skip
    cohort = read_cohort(tmp_path)
    assert cohort.layout == "oasis"
    assert cohort.notes[0].startswith("the ids of the OASIS pictures number scans")
    assert [path.name for path in cohort.scans[0].files] == [
        "case_001_slice_2.nii.png",
        "case_001_slice_10.nii.png",
    ]
    splits = assign_splits(cohort.participants(), given=cohort.given_splits())
    assert splits == {"1": "training", "402": "validation", "441": "test"}


def test_pictures_have_no_columns(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--column age=x: no such column, the source has no table"):
        read_cohort(ad_nc(tmp_path), columns={"age": "x"})


def test_a_table_is_refused(tmp_path: Path) -> None:
    for folder in ("train/AD", "test/NC"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "1_2.jpeg").touch()
    (tmp_path / "t.csv").write_text("id\n1\n")
    with pytest.raises(UsageError, match="--table .*t.csv: a set of pictures has no table"):
        read_cohort(tmp_path, table=tmp_path / "t.csv")
