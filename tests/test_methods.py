"""The methods paragraphs say what was done, and nothing that was not."""

from __future__ import annotations

import inspect
import re

import pandas as pd
import pytest
from made_metrics import mean as interval, sample_metrics

from monai_vqbrain.metrics import utility
from monai_vqbrain.metrics.anatomy_comparison import compare_anatomy, slope_on
from monai_vqbrain.metrics.membership import dataset_inference
from monai_vqbrain.metrics.utility import measure_utility
from monai_vqbrain.stages.reporting.methods import slicing_paragraph, split_paragraph, split_table
from monai_vqbrain.stages.reporting.methods_evaluation import (
    evaluation_paragraph,
    models_paragraph,
    plan_components,
)
from monai_vqbrain.stages.reporting.references import REFERENCES, number_citations

VERSIONS = {"nibabel": "5.4.2", "SimpleITK": "2.5.7", "monai": "1.6.1", "torch": "2.13.0+cpu"}
ALIGNED = {"align": "affine", "space": "MNI152NLin2009aSym"}


def rows(**changes: object) -> pd.DataFrame:
    """Two participants; the first with two sessions, the age known at the second only."""
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


def slicing(options: dict[str, object], **changes: object) -> str:
    return slicing_paragraph(rows(**changes), options, 1.8, VERSIONS)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "nibabel 5.4.2 [@nibabel] and reoriented to RAS axes (3 volumes of 2 participants)"),
        ({"dcm2niix": "1.0.2"}, "were converted to NIfTI with dcm2niix 1.0.2 [@dcm2niix]. T1"),
        (ALIGNED | {"nilearn": "0.14.1"}, "as distributed with nilearn 0.14.1 [@nilearn], wi"),
        ({}, "with linear interpolation in a single step"),
        (ALIGNED, "to the MNI152NLin2009aSym template [@mni] with a 12-degree-of-freedom"),
        (ALIGNED, "coarse N4 bias-field correction [@n4] (SimpleITK 2.5.7 [@simpleitk], L-BFGS-B"),
        ({"align": "rigid", "space": "MNIx"}, "template with a 6-degree-of-freedom rigid-body"),
        ({"align": "rigid", "space": "MNIx"}, "centred on the template's brain, were extracted"),
        ({"align": "none", "space": "MNIx"}, "were provided in the space of the MNIx template"),
        ({"space": "MNIx"}, "from 1 to 1 mm in template space"),
        ({"align": "none"}, "were not registered to a template"),
        ({"bias": True}, "after N4 bias-field correction [@n4] (SimpleITK 2.5.7 [@simpleitk]), by"),
        ({"size": [128, 128]}, "slices of 128 × 128 pixels with a pixel size of 1.8 × 1.8 mm"),
        ({"percentile": 99.0}, "the 99th percentile"),
        ({"exclude": ["sub-1", "sub-2"]}, "Scans on an exclusion list (2 entries) were excluded"),
        ({}, "covered less than 5 % of the frame were excluded, leaving 3 slices."),
    ],
)  # fmt: skip
def test_options_are_told(options: dict[str, object], words: str) -> None:
    assert words in slicing(options)


def test_what_was_not_used_is_not_cited() -> None:
    text = slicing({"align": "none"})
    assert re.findall(r"\[@(\w+)\]", text) == ["nibabel"]
    for word in ("SimpleITK", "N4", "dcm2niix", "exclusion list"):
        assert word not in text.replace("without bias-field correction", "")


def test_a_version_that_is_not_recorded_is_left_out() -> None:
    assert "read with nibabel [@nibabel] and" in slicing_paragraph(rows(), {}, None, {})


def test_more_than_one_source_of_masks_is_counted() -> None:
    text = slicing({}, mask_source=["zero-background", "derivative", "?"])
    assert "the non-zero voxels of the skull-stripped input (1 volume); " in text
    assert "the brain mask supplied with the data (1 volume); " in text


def test_the_split_table_takes_the_first_known_value_of_each_participant() -> None:
    table = {row["name"]: row for row in split_table(rows())}
    assert table["participants"]["all"] == "2"
    assert table["sessions"]["training"] == "2"
    assert table["age in years, mean (range)"]["training"] == "71.0 (71.0 to 71.0)"
    assert table["age in years, mean (range)"]["validation"] == "–"
    assert table["sex: not known"]["test"] == "1"
    assert table["diagnosis: not known"]["all"] == "2"


def test_pictures_are_not_said_to_be_cut() -> None:
    text = slicing({"size": [64, 64]}, mask_source="pictures")
    start = "The data were provided as 2D images without spatial metadata (3 images of 2 particip"
    assert text.startswith(start)
    assert "downsampled to fit a frame of 64 × 64 pixels" in text
    assert "interpolation" not in text


COUNTS = {"training": 34, "validation": 7, "test": 8}


def test_the_split_names_its_seed_and_counts() -> None:
    text = split_paragraph({"seed": 7}, COUNTS)
    assert "a hash of seed 7" in text
    assert "(34, 7 and 8 participants, aiming at 70, 15 and 15 %)" in text
    given = split_paragraph({"seed": 7}, COUNTS, given=True)
    assert "The splits supplied with the data were used" in given
    assert "34, 7 and 8 participants" in given


CODES = {"quantizer": "CodebookQuantizer", "num_codes": "512", "grid": "32x32"}
TRAINED = {"iterations": 1430, "options": {"seed": 3}}
SETTINGS = {
    "optimizer": "Adam", "learning_rates": [0.003], "batch_size": 8,
    "loss": {"l1": 1.0, "ssim": 1.0},
}  # fmt: skip
MUON = {"optimizer": "MuonAdamW", "learning_rates": [0.004, 0.02], "batch_size": 4}


@pytest.mark.parametrize(
    ("codes", "prior", "words"),
    [
        (CODES, {}, "grid of 32 × 32 codes with a VQ-VAE [@vqvae] with a codebook of 512 vectors"),
        (CODES | {"quantizer": "ScalarQuantizer"}, {}, "finite scalar quantisation [@fsq] to 512"),
        (CODES, {}, "trained for 1,430 iterations (seed 3)"),
        (
            CODES,
            TRAINED,
            "with GELU in place of the gates, conditioned on age and sex",
        ),
        (CODES, {}, "with MONAI 1.6.1 [@monai] and PyTorch 2.13.0 [@pytorch] (monai-vqbrain)"),
    ],
)
def test_models(codes: dict[str, str], prior: dict[str, object], words: str) -> None:
    text = models_paragraph(codes, TRAINED, prior, ("age", "sex"), VERSIONS)
    assert words in text
    assert ("PixelCNN" in text) is bool(prior)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (SETTINGS, "for 1,430 iterations with the Adam optimiser [@adam] (batch size 8, maximum "),
        (SETTINGS, "maximum learning rate 0.003, cosine schedule, seed 3), minimising the L1 "),
        (SETTINGS, "the L1 distance and the structural dissimilarity, 1 − SSIM [@ssim]. "),
        ({**SETTINGS, "loss": {"l1": 1.0, "ssim": 0.0}}, "minimising the L1 distance. "),
        ({**SETTINGS, "optimizer": "SGD"}, "for 1,430 iterations (batch size 8, "),
    ],
)  # fmt: skip
def test_the_training_is_described_as_recorded(settings: dict[str, object], words: str) -> None:
    assert words in models_paragraph(CODES, TRAINED | {"training": settings}, {}, (), VERSIONS)


def test_the_training_of_the_prior_names_both_optimisers_and_rates() -> None:
    text = models_paragraph(CODES, {}, TRAINED | {"training": MUON}, (), VERSIONS)
    assert "the Muon optimiser [@muon] for the kernels of hidden layers and AdamW [@adamw]" in text
    assert "(batch size 4, maximum learning rate 0.004 and 0.02, cosine schedule, seed 3)" in text
    assert "minimising the negative log-likelihood of the codes. " in text


PLANNED = {
    "plan": 10,
    "conditions": {"age": [50.0, 90.0], "position_rel": [0.0, 1.0]},
    "late_conditions": ["age"],
}


BOTH = "what single conditions explain and principal components of the remainder"
SCALE = "of the mean volume with respect to in-plane scale"


@pytest.mark.parametrize(
    ("changes", "participants", "words"),
    [
        ({}, 150, f"10 components: {BOTH}"),
        ({"plan": 1}, 150, "1 component: what single conditions explain"),
        ({"late_conditions": []}, 60, "4 components: principal components of the remainder"),
        ({}, 39, f"2 components: derivatives {SCALE} and shift across slices [@tangent]"),
        ({}, 15, f"1 component: derivative {SCALE} [@tangent]"),
        ({}, 14, ""),
        ({"conditions": {"age": [50.0, 90.0]}}, 150, ""),
        ({"plan": 0}, 150, ""),
    ],
)
def test_the_components_of_the_plan_are_named(
    changes: dict[str, object], participants: int, words: str
) -> None:
    assert plan_components(PLANNED | changes, participants) == words
    assert plan_components({}, participants) == ""


def test_the_plan_is_told_and_cited() -> None:
    codes = {"quantizer": "CodebookQuantizer", "num_codes": "512", "grid": "32x32"}
    without = models_paragraph(codes, TRAINED, TRAINED, (), VERSIONS)
    text = models_paragraph(codes, TRAINED, TRAINED, (), VERSIONS, "2 components: both")
    assert "appearance model [@appearance] with 2 components: both." in text
    assert "appearance" not in without


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ("ds002748", "initialised with weights trained on ds002748 and trained for"),
        ("/home/me/run", "initialised with weights of another training and trained for"),
    ],
)
def test_the_start_of_a_training_is_described(start: str, words: str) -> None:
    codes = {"quantizer": "CodebookQuantizer", "num_codes": "512", "grid": "32x32"}
    assert words in models_paragraph(codes, TRAINED | {"start_from": start}, {}, (), VERSIONS)


def test_models_of_unknown_codes_are_not_described() -> None:
    assert models_paragraph({}, TRAINED, TRAINED, (), VERSIONS) == ""


FIDELITY = {"test": {"ssim_brain": interval(0.8), "ms_ssim_whole": interval(0.9)}}
SAMPLED = {"number": 64, "temperature": 1.0, "top_p": 0.95, "guidance": 1.5, "seed": 0}


@pytest.mark.parametrize(
    "words",
    [
        "12 slices of 3 test participants",
        "structural similarity index (SSIM) [@ssim]",
        "multi-scale SSIM [@ms_ssim]",
        "64 slices were sampled (temperature 1, top-p 0.95, guidance 1.5, seed 0)",
        "compared with 20 slices of 5 held-out participants by protocol vqbrain-eval-1",
        "percentile bootstrap over participants (1,000 draws)",
        "classifier two-sample test [@c2st]",
        "density and coverage (5 nearest neighbours) [@coverage] and precision and recall [@rec",
        "in the feature spaces random, texture, encoder and weights.pt",
        "[@membership] was tested by permutation of participants, Bonferroni",
        "Classifiers of sex were trained on samples",
    ],
)  # fmt: skip
def test_the_evaluation_is_told(words: str) -> None:
    assert words in evaluation_paragraph({"fidelity": FIDELITY, **sample_metrics()}, SAMPLED)


def test_an_evaluation_without_samples_claims_none() -> None:
    text = evaluation_paragraph({"fidelity": {"test": {"ssim_brain": interval(0.8)}}}, {})
    assert re.findall(r"\[@(\w+)\]", text) == ["ssim"]
    assert "sampled" not in text


def test_numbers_of_draws_are_those_of_the_metrics() -> None:
    assert inspect.signature(compare_anatomy).parameters["draws"].default == 500
    assert inspect.signature(slope_on).parameters["draws"].default == 500
    assert inspect.signature(measure_utility).parameters["draws"].default == 500
    assert utility.STEPS == 150
    assert inspect.signature(dataset_inference).parameters["permutations"].default == 9999


def test_citations_are_numbered_in_the_order_of_the_text() -> None:
    cited = number_citations({"A": "N4 [@n4], SSIM [@ssim]", "B": "N4 [@n4]; KID [@kid]", "C": ""})
    assert cited.paragraphs == {"A": "N4 [1], SSIM [2]", "B": "N4 [1]; KID [3]"}
    assert [r.split(" ")[0] for r in cited.references] == ["Tustison", "Wang", "Bińkowski"]
    assert re.findall(r"^@\w+\{(\w+),", cited.bibtex, re.MULTILINE) == ["n4", "ssim", "kid"]


def test_a_citation_without_a_reference_is_named() -> None:
    with pytest.raises(KeyError, match="no reference has the key 'missing': add it"):
        number_citations({"A": "[@missing]"})


def test_citations_of_the_whole_text_and_bibtex_entries_are_the_same() -> None:
    options = {**ALIGNED, "bias": True, "nilearn": "0.14.1", "dcm2niix": "1.0.2"}
    paragraphs = {
        "Image processing": slicing(options, mask_source=["deepbet", "deepbet", "template"]),
        "Participants": split_paragraph({"seed": 7}, COUNTS),
        "Models": models_paragraph(
            CODES,
            TRAINED | {"training": SETTINGS},
            TRAINED | {"training": MUON},
            (),
            VERSIONS,
            plan_components(PLANNED, 30),
        ),
        "Evaluation": evaluation_paragraph({"fidelity": FIDELITY, **sample_metrics()}, SAMPLED),
    }
    cited = number_citations(paragraphs)
    in_text = re.findall(r"\[@(\w+)\]", " ".join(paragraphs.values()))
    in_bibtex = re.findall(r"^@\w+\{(\w+),$", cited.bibtex, re.MULTILINE)
    assert in_bibtex == list(dict.fromkeys(in_text))
    assert REFERENCES.keys() - set(in_bibtex) == {"fsq"}  # of the other quantizer
    numbers = re.findall(r"\[(\d+)\]", " ".join(cited.paragraphs.values()))
    assert list(dict.fromkeys(map(int, numbers))) == list(range(1, len(cited.references) + 1))


@pytest.mark.parametrize("key", REFERENCES)
def test_bibtex_entries_are_whole(key: str) -> None:
    entry = REFERENCES[key].bibtex(key)
    assert entry.count("{") == entry.count("}")
    for field in ("author", "title", "year"):
        assert f"  {field} = {{" in entry


def test_bibtex_has_the_fields_of_the_publication() -> None:
    assert REFERENCES["mni"].bibtex("mni") == (
        "@article{mni,\n"
        "  author = {Fonov, V and Evans, A C and Botteron, K and Almli, C R and McKinstry, R C and "
        "Collins, D L},\n"
        "  title = {{Unbiased average age-appropriate atlases for pediatric studies}},\n"
        "  journal = {NeuroImage},\n"
        "  year = {2011},\n"
        "  volume = {54},\n"
        "  number = {1},\n"
        "  pages = {313--327},\n"
        "  doi = {10.1016/j.neuroimage.2010.07.033}\n}"
    )


def test_a_reference_is_written_as_in_a_paper() -> None:
    assert REFERENCES["mni"].text == (
        "Fonov V, Evans AC, Botteron K, Almli CR, McKinstry RC, Collins DL. Unbiased average "
        "age-appropriate atlases for pediatric studies. NeuroImage 54(1):313-327, 2011. "
        "doi:10.1016/j.neuroimage.2010.07.033."
    )
    assert "Wang Y, et al. MONAI" in REFERENCES["monai"].text
