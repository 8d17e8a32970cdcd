"""The methods paragraph says what was done, and nothing that was not."""

from __future__ import annotations

import pandas as pd
import pytest

from monai_vqbrain.stages.reporting.methods import slicing_paragraph, split_paragraph, split_table


def rows(**changes: object) -> pd.DataFrame:
    """Two people; the first with two sessions, the age known at the second only."""
    table = pd.DataFrame(
        {
            "participant_id": ["a", "a", "b"],
            "session_id": ["1", "2", "1"],
            "stack": ["a1", "a2", "b1"],
            "axis": "axial",
            "position_mm": [1.0, 1.0, 1.0],
            "position_rel": 0.5,
            "split": ["training", "training", "test"],
            "age": [None, 71.0, 80.0],
            "sex": ["F", "F", None],
            "diagnosis": None,
            "mask_source": "zero-background",
        }
    )
    return table.assign(**changes)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "3 T1-weighted volumes of 2 participants were brought to"),
        ({"align": "affine", "space": "MNIx"}, "MNI152 template (MNIx) by twelve parameters"),
        ({"align": "rigid", "space": "MNIx"}, "MNI152 template (MNIx) by six parameters"),
        ({"align": "rigid", "space": "MNIx"}, "were centred on the template's brain"),
        ({"align": "none", "space": "MNIx"}, "they came in the space of the template MNIx"),
        ({"space": "MNIx"}, " mm of the template's space"),
        ({"align": "none"}, "without registration to a template"),
        ({"bias": True}, "divided, after N4 bias-field correction, by"),
        ({"size": [128, 128]}, "Axial slices of 128 × 128 pixels at 1.8 mm were centred"),
        ({"percentile": 99.0}, "the 99th percentile"),
    ],
)
def test_options_are_told(options: dict[str, object], words: str) -> None:
    assert words in slicing_paragraph(rows(), options, 1.8)


def test_more_than_one_source_of_masks_is_counted() -> None:
    text = slicing_paragraph(rows(mask_source=["zero-background", "derivative", "?"]), {}, None)
    assert "the voxels of the skull-stripped input that are not 0 (1 volume); " in text
    assert "the mask that came with the data (1 volume); " in text


def test_the_split_table_takes_the_first_known_value_of_each_person() -> None:
    table = {row["name"]: row for row in split_table(rows())}
    assert table["participants"]["all"] == "2"
    assert table["sessions"]["training"] == "2"
    assert table["age in years, mean (range)"]["training"] == "71.0 (71.0 to 71.0)"
    assert table["age in years, mean (range)"]["validation"] == "–"
    assert table["sex: not known"]["test"] == "1"
    assert table["diagnosis: not known"]["all"] == "2"


def test_pictures_are_not_said_to_be_cut() -> None:
    text = slicing_paragraph(rows(mask_source="pictures"), {}, None)
    assert text.startswith("The slices came as pictures, without a place in space, of")
    assert "sampled linearly" not in text


def test_the_split_names_its_seed() -> None:
    assert "a hash of seed 7" in split_paragraph({"seed": 7})
    assert "those that the data came with" in split_paragraph({"seed": 7}, given=True)
