"""The page and the table on which odd scans are found."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from browser import CHROMIUM, open_page
from click.testing import CliRunner
from scipy import stats
from words import visible_text, words_to_avoid

from monai_vqbrain.cli import vqbrain
from monai_vqbrain.cohorts import make_phantom
from monai_vqbrain.errors import UsageError
from monai_vqbrain.stages.prepare import prepare_slices
from monai_vqbrain.stages.slicing.options import PrepareOptions
from monai_vqbrain.stages.slicing.qc import robust_distance

needs_chromium = pytest.mark.skipif(
    not CHROMIUM.is_file(), reason=f"needs Chromium as {CHROMIUM}, which is not there"
)
SMALL = {"size": (32, 32), "spacing": 6.0, "count": 4}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight simulated participants, one of whom has lost the lower half of the brain."""
    folder = tmp_path_factory.mktemp("qc") / "people"
    make_phantom(folder, participants=8, resolution_mm=4, second_sessions=0)
    path = next(folder.glob("sub-phantom03/**/*_T1w.nii.gz"))
    image = nib.load(path)
    values = np.asarray(image.dataobj).copy()
    values[:, :, : values.shape[2] // 2] = 0
    nib.save(nib.Nifti1Image(values, image.affine, image.header), path)
    return folder


@pytest.fixture(scope="module")
def slices(source: Path) -> Path:
    return prepare_slices(source, source.parent / "run", PrepareOptions(**SMALL))


def table(slices: Path) -> pd.DataFrame:
    return pd.read_csv(slices / "qc" / "qc.tsv", sep="\t")


def test_the_odd_one_comes_first_and_what_is_odd_is_named(slices: Path) -> None:
    found = table(slices)
    assert len(found) == 8
    assert found["score"].is_monotonic_decreasing
    assert found["scan"][0] == "sub-phantom03_ses-01"
    assert found["odd"][0] in ("brain_ml", "height_mm")
    assert found["score"][0] > 5


def test_measures_are_those_of_the_image(source: Path, slices: Path) -> None:
    row = table(slices).set_index("scan").loc["sub-phantom05_ses-01"]
    image = nib.load(source / row["source"])
    voxels = np.count_nonzero(np.asarray(image.dataobj))
    assert row["brain_ml"] == pytest.approx(voxels * 64 / 1000, rel=1e-3)
    stack = nib.load(slices / "stacks" / "sub-phantom05_ses-01_axial_T1w.nii").get_fdata()
    mask = nib.load(
        slices / "stacks" / "sub-phantom05_ses-01_axial_desc-brain_mask.nii"
    ).get_fdata()
    assert row["brightness"] == pytest.approx(stack[mask > 0].mean(), abs=0.003)
    assert row["area_percent"] == pytest.approx(100 * mask.mean(), rel=1e-3)


def test_distances_are_those_of_scipy() -> None:
    values = pd.Series(np.random.default_rng(0).normal(size=50))
    spread = stats.median_abs_deviation(values, scale="normal")
    expected = (values - values.median()).abs() / spread
    assert np.allclose(robust_distance(values), expected, rtol=1e-4)
    assert robust_distance(pd.Series([2.0, 2.0, 2.0])).tolist() == [0, 0, 0]
    assert np.isnan(robust_distance(pd.Series([np.nan, np.nan]))).all()


def test_the_page_is_whole_by_itself_and_has_every_scan(slices: Path) -> None:
    page = (slices / "qc" / "index.html").read_text()
    assert len(re.findall(r'<article class="scan"', page)) == 8
    assert page.count("data:image/jpeg;base64,") == 8
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert page.index("sub-phantom03") < page.index("sub-phantom05")


def test_the_text_of_the_page_avoids_private_words(slices: Path) -> None:
    text = visible_text((slices / "qc" / "index.html").read_text())
    assert "Quality control" in text
    assert words_to_avoid(text) == []


def test_the_page_names_its_keys(slices: Path) -> None:
    page = re.sub(r"\s+", " ", (slices / "qc" / "index.html").read_text())
    assert "<kbd>j</kbd> and <kbd>k</kbd> move, <kbd>x</kbd> excludes a scan" in page
    for key, what in {
        "j": "next scan", "k": "previous scan", "x": "exclude the scan", "c": "copy the list",
    }.items():  # fmt: skip
        assert re.search(rf"<dt><kbd>{key}</kbd>( <kbd>.</kbd>)?</dt><dd>{what}", page)


CURRENT = "document.querySelector('[aria-current]')?.dataset.scan"


@needs_chromium
def test_keys_move_and_mark_and_give_the_list(slices: Path, tmp_path: Path) -> None:
    scans = list(table(slices)["scan"])
    with open_page(tmp_path / "profile") as page:
        page.show(slices / "qc" / "index.html")
        assert page.run(CURRENT) is None
        page.press("x")  # no scan is chosen yet
        seen = []
        for key in ("j", "ArrowDown", "j", "k", "ArrowUp", "k", "k"):
            page.press(key)
            seen.append(scans.index(page.run(CURRENT)))
        assert seen == [0, 1, 2, 1, 0, 0, 0]
        for _ in scans:
            page.press("j")
        bottom = "document.querySelector('[aria-current]').getBoundingClientRect().bottom"
        assert 0 < page.run(bottom) <= page.run("innerHeight")
        for _ in scans:
            page.press("k")
        assert page.run("document.getElementById('chosen').hidden")
        for key in ("x", "j", "x", "j", "x", "x"):  # the third is taken in again
            page.press(key)
        assert page.run("document.getElementById('names').value") == "\n".join(scans[:2])
        assert page.run("document.getElementById('save').textContent") == "Save exclude.txt (2)"
        page.press("c")
        assert page.run("document.getElementById('copied').textContent") == "copied"
        assert page.problems == []


@needs_chromium
def test_a_question_mark_shows_the_keys_and_typing_is_left_alone(
    slices: Path, tmp_path: Path
) -> None:
    with open_page(tmp_path / "profile") as page:
        page.show(slices / "qc" / "index.html")
        page.press("?")
        assert page.run("document.getElementById('keys').open")
        page.press("j")  # nothing moves behind it
        assert page.run(CURRENT) is None
        page.press("?")
        assert not page.run("document.getElementById('keys').open")
        page.run("document.getElementById('named').focus()")
        page.press("x")
        page.press("j")
        assert page.run("document.getElementById('named').value") == "xj"
        assert page.run(CURRENT) is None
        page.run("document.getElementById('named').value = 'phantom05'")
        page.run("document.getElementById('named').dispatchEvent(new Event('input'))")
        page.run("document.getElementById('named').blur()")
        page.press("j")
        assert page.run(CURRENT) == "sub-phantom05_ses-01"
        page.press("j")  # the others are not shown
        assert page.run(CURRENT) == "sub-phantom05_ses-01"


def test_what_a_list_names_is_left_out(source: Path, slices: Path, tmp_path: Path) -> None:
    listed = tmp_path / "exclude.txt"
    listed.write_text("sub-phantom03_ses-01\n\nsub-phantom01\n")
    command = ["prepare", str(source), str(tmp_path / "run"), "--size", "32", "32", "--spacing",
               "6", "--count", "4", "--exclude", str(listed)]  # fmt: skip
    done = CliRunner().invoke(vqbrain, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    folder = tmp_path / "run" / "2-slices"
    assert len(table(folder)) == 6
    problems = pd.read_csv(folder / "problems.tsv", sep="\t")
    assert list(problems["problem"]) == ["was excluded"] * 2
    # a filtered qc.tsv will do too
    table(slices)[:1].to_csv(listed, sep="\t", index=False)
    done = CliRunner().invoke(vqbrain, command, catch_exceptions=False)
    assert len(table(folder)) == 7


def test_an_unknown_name_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no participant or scan sub-99 to exclude"):
        prepare_slices(source, tmp_path / "run", PrepareOptions(**SMALL, exclude=("sub-99",)))
