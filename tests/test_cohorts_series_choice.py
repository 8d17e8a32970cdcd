"""Which series is a T1, and which of several is used."""

from __future__ import annotations

import pytest

from monai_vqbrain.cohorts.series_choice import is_t1, rank_of_series, reason

T1_NAMES = (
    """
Accelerated_Sagittal_MPRAGE|MPRAGE_GRAPPA2|MP-RAGE|MP_RAGE_REPEAT|MPR____N3__Scaled
MPR-R__GradWarp__B1_Correction__N3|MT1__GradWarp__N3m|IR-FSPGR|Sag_IR-SPGR|3D_T1|T1w|T1W_3D_TFE
t1_mprage_sag_iso|Ax 3D BRAVO|3D BRAVO +C|SAG FSPGR BRAVO|t1_mp2rage_sag_UNI_Images|MP2RAGE_UNI-DEN
AX T1 FLAIR|t1_se_tra|MPRAGE_MPR_Cor|MPR COR T1|sT1W_3D_FFE|SAG3DT1
Accelerated Sagittal MPRAGE Phase A-P
""".strip()
    .replace("\n", "|")
    .split("|")
)

OTHER_NAMES = (
    """
MPR AX FLAIR|MPR COR 3D T2|MPR AX|t2_space_sag|Axial_T2_FLAIR|3-Plane Localizer|T1 localizer
AAHScout_MPR_sag|t1_scout|T1 survey|mp2rage_INV1|t1_mp2rage_sag_p3_INV2|mp2rage_T1_Images|T1_MAP
MP2RAGE_T1|T1rho|T1map_MOLLI|mprage_loc|Field_Mapping|ep2d_diff|PD_T1|TOF_T1|FLAIR|T2_MPRAGE|T1 maps
""".strip()
    .replace("\n", "|")
    .split("|")
)


@pytest.mark.parametrize("name", T1_NAMES)
def test_t1_series_are_known_by_their_names(name: str) -> None:
    assert is_t1(name)


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_other_series_are_none(name: str) -> None:
    assert not is_t1(name)


PREFERRED = [  # the first of two is used, for this reason
    ("t1_mprage_sag_iso", "MPR COR T1", "original before reformatted"),
    ("t1_mpr_sag_p2_iso", "AX T1 SE", "3D before 2D"),  # Siemens' usual name of an MPRAGE
    ("3D BRAVO", "AX T1 SE +C", "3D before 2D"),
    ("3D BRAVO +C", "AX T1 SE", "3D before 2D"),
    ("t1_mprage", "AX T1", "3D before 2D"),
    ("AX T1", "AX T1 TSE", "3D before 2D"),
    ("AX T1 PRE GD", "AX T1 POST GD", "without contrast agent before with"),
    ("T1 w/o contrast", "T1 gado", "without contrast agent before with"),
    ("t1_mprage", "t1_mprage_km", "without contrast agent before with"),
    ("t1_mp2rage_UNI", "t1_mp2rage", "UNI image of MP2RAGE"),
    ("MP-RAGE", "MP-RAGE REPEAT", "no repeat"),
    ("Sag 3D MPRAGE", "Sag 3D MPRAGE_REPE", "no repeat"),
    ("MPR__GradWarp", "MPR-R__GradWarp", "no repeat"),
    ("Accelerated MPRAGE", "Accelerated MPRAGE_ND", "corrected for distortion"),
]


@pytest.mark.parametrize(("used", "other", "why"), PREFERRED)
def test_the_ranking(used: str, other: str, why: str) -> None:
    first, second = rank_of_series(used), rank_of_series(other)
    assert [value for _, value in first] < [value for _, value in second]
    assert reason(first, second, "newest") == why


def test_a_header_goes_before_the_name() -> None:
    values = dict(rank_of_series("t1_mprage", acquisition="2D", reformatted=True, contrast=True))
    assert values["3D before 2D"] == 2
    assert values["original before reformatted"] == 1
    assert values["without contrast agent before with"] == 1
    assert dict(rank_of_series("MPR COR T1", reformatted=False))["original before reformatted"] == 0


def test_equal_series_are_decided_by_the_last_criterion() -> None:
    assert reason(rank_of_series("t1"), rank_of_series("t1"), "newest") == "newest"
