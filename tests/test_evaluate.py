"""The numbers of a run, from a run folder made of arrays."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_run import FACTOR, SIZE, K, decode, finish_again, make_run, make_scores
from PIL import Image
from skimage.metrics import structural_similarity

from monai_vqbrain.errors import UsageError, VQBrainError
from monai_vqbrain.metrics import over_participants
from monai_vqbrain.runs.codes import read_codes
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.sample_sets import current_sets, main_set
from monai_vqbrain.runs.stacks import read_slices
from monai_vqbrain.runs.tables import in_split, read_slices_table
from monai_vqbrain.stages import evaluate as stage
from monai_vqbrain.stages.reporting import run_figures
from monai_vqbrain.stages.reporting.summary import summarise
from monai_vqbrain.tables import read_table


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = make_run(tmp_path_factory.mktemp("run"))
    make_scores(run, run.report)
    return run


@pytest.fixture(scope="module")
def numbers(run: RunFolder) -> dict:
    return summarise(run, run.report, decode)


def test_slices_come_in_the_tables_order_without_those_that_do_not_count(run: RunFolder) -> None:
    rows = read_slices_table(run)
    assert len(rows) == 12 * 3  # the fourth slice of each stack is empty
    shuffled = rows.sample(frac=1, random_state=0)
    images, masks = read_slices(run, shuffled)
    ordered, _ = read_slices(run, rows)
    np.testing.assert_array_equal(images, ordered[rows.index.get_indexer(shuffled.index)])
    assert images.dtype == np.uint8
    assert masks.dtype == bool
    np.testing.assert_array_equal(masks, images > 0)


def test_codes_stand_beside_their_slices(run: RunFolder) -> None:
    codes, rows, num_codes = read_codes(run)
    images, _ = read_slices(run, rows)
    assert (len(codes), num_codes) == (36, K)
    assert np.abs(decode(codes) * 255 - images).mean() < 30


def test_a_black_image_scores_nothing_inside_the_brain(numbers: dict) -> None:
    trivial = numbers["fidelity"]["trivial"]
    assert trivial["black"]["ssim_brain"]["mean"] < 0.01
    assert trivial["black"]["ssim_whole"]["mean"] > 0.1
    for name in ("position_mean", "nearest", "pooling"):
        assert 0.3 < trivial[name]["ssim_brain"]["mean"] < 1


def test_pooling_has_as_many_numbers_as_there_are_codes(numbers: dict) -> None:
    assert numbers["fidelity"]["pooling_factor"] == FACTOR


def test_whole_image_score_of_black_equals_scikit_image(run: RunFolder, numbers: dict) -> None:
    rows = read_slices_table(run)
    test = rows[in_split(rows, "test")]
    scores = [
        structural_similarity(
            np.zeros_like(image, dtype=np.float32),
            image.astype(np.float32) / 255,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1,
            full=True,
        )[1].mean()
        for image in read_slices(run, test)[0]
    ]
    expected = over_participants(scores, test["participant_id"].tolist())
    found = numbers["fidelity"]["trivial"]["black"]["ssim_whole"]
    assert found["mean"] == pytest.approx(expected.mean, abs=1e-5)
    assert found["participants"] == 3


def test_fidelity_is_the_mean_over_people_of_the_bundles_scores(
    run: RunFolder, numbers: dict
) -> None:
    table = pd.read_csv(run.report / "fidelity.tsv", sep="\t")
    mean = table.groupby("participant_id")["ssim_brain"].mean().mean()
    found = numbers["fidelity"]["test"]["ssim_brain"]
    assert found["mean"] == pytest.approx(mean)
    assert found["low"] < mean < found["high"]
    assert (found["participants"], found["slices"]) == (3, 9)


def test_fidelity_by_group_is_the_mean_over_the_groups_participants(
    run: RunFolder, numbers: dict
) -> None:
    rows = read_slices_table(run)
    scores = read_table(run.report / "fidelity.tsv")
    table = scores.merge(rows, on=["participant_id", "session_id", "axis", "index"])
    groups = numbers["fidelity"]["groups"]
    assert [group["group"] for group in groups["position"]] == ["0.50", "0.60", "0.70"]
    assert [group["group"] for group in groups["age"]] == ["60-69", "70-79"]
    for name, column in {"sex": "sex", "position": "position_rel"}.items():
        expected = table.groupby(column).apply(
            lambda part: part.groupby("participant_id")["ssim_brain"].mean().mean()
        )
        found = [group["ssim_brain"]["mean"] for group in groups[name]]
        np.testing.assert_allclose(found, expected.to_numpy())
    assert sum(group["ssim_brain"]["participants"] for group in groups["sex"]) == 3


def test_the_worst_slices_are_drawn(run: RunFolder, numbers: dict) -> None:
    with Image.open(run.report / "worst.png") as picture:
        assert picture.size == (8 * SIZE, 3 * SIZE)


def test_codebook_and_prior(run: RunFolder, numbers: dict) -> None:
    codes, rows, _ = read_codes(run)
    used = len(np.unique(codes[in_split(rows, "test")]))
    assert numbers["codebook"]["used"] == numbers["codebook"]["test"]["used"] == used
    assert 1 < numbers["codebook"]["perplexity"] <= used
    prior = numbers["prior"]
    assert prior["bits_per_image"] == pytest.approx(prior["bits_per_code"] * 64)
    assert prior["bits_per_code_interval"]["mean"] == prior["bits_per_code"]
    assert 0 < prior["unigram_bits_per_code"] < prior["uniform_bits_per_code"] == 4


def test_split_counts(numbers: dict) -> None:
    split = numbers["split"]
    assert split["participants"] == {"training": 6, "validation": 2, "test": 3}
    assert split["sessions"] == {"training": 7, "validation": 2, "test": 3}
    assert split["slices"] == {"training": 21, "validation": 6, "test": 9}


def test_samples_are_compared_with_decoded_training_slices(run: RunFolder, numbers: dict) -> None:
    nearest = pd.read_csv(run.report / "nearest.tsv", sep="\t")
    assert list(nearest["sample"]) == [f"sample-{i:04d}.nii.gz" for i in range(1, 6)]
    # every second sample or so is a training slice: its own code grid lies nearest
    assert (nearest["participant_id"] == "sub-secret01").sum() >= 2
    assert (run.report / "nearest.png").read_bytes().startswith(b"\x89PNG")
    assert numbers["samples"]["compared"] == 5
    assert numbers["samples"]["test_distance_to_training"] > 0


def test_numbers_are_plain_json(numbers: dict) -> None:
    assert json.loads(json.dumps(numbers, allow_nan=False)) == numbers
    assert numbers["schema"] == 3
    assert numbers["simulated"] is True


def test_what_the_run_does_not_have_is_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path, prior=False, samples=False, simulated=False)
    run.report.mkdir()
    found = summarise(run, run.report)
    assert set(found) == {"schema", "simulated", "split", "fidelity", "codebook"}
    assert set(found["fidelity"]) == {"trivial", "pooling_factor"}
    assert found["simulated"] is False


def test_a_person_in_two_splits_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path, prior=False, samples=False)
    path = run.slices / "slices.tsv"
    table = pd.read_csv(path, sep="\t", keep_default_na=False)
    table.loc[0, "split"] = "test"
    table.to_csv(path, sep="\t", index=False)
    with pytest.raises(VQBrainError, match=r"in two splits: sub-secret01 \(test, training\)"):
        summarise(run, tmp_path)


def test_codes_of_another_table_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path, prior=False, samples=False)
    table = (run.codes / "codes.tsv").read_text().splitlines()[:-1]
    (run.codes / "codes.tsv").write_text("\n".join(table))
    with pytest.raises(
        VQBrainError, match=r"48 code grids but codes.tsv has 47 rows: run: vqbrain"
    ):
        read_codes(run)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(VQBrainError, match=r"slices.tsv is missing or empty: run its stage again"):
        read_slices_table(RunFolder(tmp_path))


def test_evaluate_writes_the_report_folder_and_then_only_what_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, runs = make_run(tmp_path / "run"), []

    def bundles(run: RunFolder, work: Path, device: str) -> None:
        runs.append(device)
        make_scores(run, work)

    monkeypatch.setattr(stage, "run_evaluations", bundles)
    monkeypatch.setattr(run_figures, "load_network", lambda *_: None)
    monkeypatch.setattr(run_figures, "decoder", lambda *_: decode)
    monkeypatch.setattr(run_figures, "run_comparison", lambda *_: None)  # see test_ruler.py
    path = stage.evaluate(run.path, device="cpu")
    assert path == run.report / "report.html"
    assert path.is_file()
    assert json.loads((run.report / "metrics.json").read_text())["schema"] == 3
    stage.evaluate(run.path)
    assert runs == ["cpu"]
    assert "only the report is rendered again" in capsys.readouterr().out
    shutil.rmtree(run.sample_set("default"))
    stage.evaluate(run.path)
    assert len(runs) == 2
    assert "6-samples/default is no longer used" in capsys.readouterr().out


def test_codes_of_another_vqvae_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path, prior=False)
    (run.vqvae / "model.pt").write_bytes(b"other weights")
    finish_again(run.vqvae)
    with pytest.raises(VQBrainError, match="encoded by another VQ-VAE.*: run vqbrain encode"):
        stage.evaluate(run.path)


def test_a_prior_of_other_codes_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    finish_again(run.prior, made_from={"4-codes": {"bytes": 1, "sha256": "0"}})
    with pytest.raises(VQBrainError, match="trained on other codes.*: run vqbrain train prior"):
        stage.evaluate(run.path)


def test_folds_need_samples(tmp_path: Path) -> None:
    run = make_run(tmp_path, samples=False)
    with pytest.raises(UsageError, match="folds needs samples: first run: vqbrain sample"):
        stage.evaluate(run.path, folds=2)


def test_samples_of_other_networks_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path)
    assert len(main_set(run)[1]) == 5
    (run.prior / "model.pt").write_bytes(b"trained again")
    finish_again(run.prior)
    assert current_sets(run) == {}
    stage.check_fit(run)
    assert "6-samples/default comes from other networks: left out" in capsys.readouterr().err


def test_evaluate_names_the_stage_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"2-slices is not in .* first run: vqbrain prepare"):
        stage.evaluate(tmp_path)
