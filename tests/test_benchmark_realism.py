"""The studies of realism: what they draw, cut and count, on small made-up data."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import benchmark_modules
from scipy import ndimage
from sklearn.metrics import roc_auc_score


@pytest.fixture(scope="module")
def scripts() -> Iterator[Any]:
    """The scripts, as modules."""
    with benchmark_modules(
        "diffusion", "plan_components", "realism", "realism_judge", "volumes"
    ) as found:
        yield found


def test_latent_diffusion_learns_draws_and_scores(scripts: Any) -> None:
    settings = scripts.diffusion.Settings(
        autoencoder=(8, 8), unet=(8, 16), heads=8, groups=8, crop=16, batch=4, steps=3, views=1
    )
    model = scripts.diffusion.LatentDiffusion(settings, seed=0)
    images = torch.rand(12, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    before = [p.clone() for p in model.autoencoder.parameters()]
    model.fit(images, 1.0)
    assert min(model.done.values()) > 0
    assert any(
        not torch.equal(a, b) for a, b in zip(before, model.autoencoder.parameters(), strict=True)
    )
    drawn = model.sample(3, seed=1)
    assert drawn.shape == (3, 1, 32, 32)
    assert 0 <= drawn.min() <= drawn.max() <= 1
    assert torch.equal(drawn, model.sample(3, seed=1))
    assert not torch.equal(drawn, model.sample(3, seed=2))
    assert model.reconstruct(images).shape == images.shape
    scores = model.scores(images, seed=0)
    assert scores.shape == (12,)
    assert (scores > 0).all()


def test_views_of_diffusion_are_the_priors(scripts: Any) -> None:
    images = torch.rand(2, 1, 8, 8)
    moved = scripts.diffusion.with_views(images, 2)
    assert moved.shape == (6, 1, 8, 8)
    assert torch.equal(moved[:2], images)
    assert not torch.equal(moved[2:4], images)
    assert scripts.diffusion.with_views(images, 0) is images


def test_membership_is_scikit_learns_auc(scripts: Any) -> None:
    rng = np.random.default_rng(0)
    members, others = rng.normal(0, 1, 40), rng.normal(0.8, 1, 30)
    names = [f"sub-{i}" for i in range(40)], [f"sub-x{i}" for i in range(30)]
    found = scripts.realism_judge.membership_auc(members, others, names)
    truth = np.r_[np.ones(40), np.zeros(30)]
    assert found == pytest.approx(roc_auc_score(truth, -np.r_[members, others]))


def test_cuts_run_through_the_middle_with_square_pixels(scripts: Any) -> None:
    volume = np.zeros((1, 20, 30, 5), np.uint8)
    volume[0, 10, :, 2] = 200
    offsets = scripts.volumes.CUTS
    found = [scripts.volumes.cuts(volume, 0, offset, (1.8, 3.6)) for offset in offsets]
    assert found[0].shape == (1, scripts.volumes.SIDE, scripts.volumes.SIDE)
    assert [int(cut.any()) for cut in found] == [0, 1, 0]
    rows, columns = np.nonzero(found[1][0])
    assert (rows.max(), columns.min(), columns.max()) == (29, 4, 5)  # two pixels per slice


def test_figures_have_plain_names_and_stand_beside_ours(scripts: Any) -> None:
    one = dict.fromkeys(scripts.realism.FIGURES.values(), 0.5) | {"steps": 10}
    found = {"ours": one, "monai_ldm": one | {"detectability": 1.0}}
    flat = scripts.realism.flat(found)
    assert flat["auc_ours"] == 0.5
    assert flat["auc_monai_ldm"] == 1.0
    assert {"kid_ratio_ours", "coverage_ours", "implausible_ours", "membership_ours"} <= set(flat)
    last = scripts.realism.table(found).strip().splitlines()[-1].split()
    assert last[:4] == ["monai_ldm", "/", "ours", "2.000"]


def test_unknown_settings_are_named(capsys: pytest.CaptureFixture[str], scripts: Any) -> None:
    with pytest.raises(SystemExit):
        scripts.realism.parse(["--run", "run", "--ldm", "depth=3"])
    assert "give NAME=VALUE, the names being autoencoder, blocks, latent" in capsys.readouterr().err


def test_the_prior_before_is_trained_by_its_own_configuration(
    scripts: Any, trained_run: Path, tmp_path: Path
) -> None:
    options = {"run": trained_run, "work": tmp_path, "cpu-seconds": 2, "number": 4}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    made = scripts.realism.before(scripts.realism.Bench(scripts.realism.parse(words)))
    settings = json.loads((tmp_path / "before/5-prior/config.json").read_text())["network_def"]
    assert (settings["channels"], settings["plan"], settings["late_conditions"]) == (112, 0, [])
    assert not {"shift_x", "shift_y"} & set(settings["conditions"])
    assert len(made.sets.synthetic) == 4
    assert 0 <= made.membership <= 1
    assert made.steps > 0


def test_principal_components_reveal_participants_and_tangent_vectors_do_not(scripts: Any) -> None:
    rng = np.random.default_rng(0)
    mean = ndimage.gaussian_filter(rng.random((16, 12, 12)), 2)
    folds = ndimage.gaussian_filter(rng.normal(size=(30, 16, 12, 12)), (0, 1, 1, 1))
    volumes = torch.from_numpy(mean * (1 + folds)).float()
    args = argparse.Namespace(repeats=10, seed=0)
    found = {
        kind: scripts.plan_components.figures(volumes, count, args)
        for kind, count in scripts.plan_components.KINDS.items()
    }
    principal, tangent = found["principal components"], found["tangent vectors"]
    assert principal["described"] > 3 * principal["described_new"]
    assert principal["membership"] > 0.85
    assert 0.3 < tangent["membership"] < 0.6


def test_the_picture_has_two_rows_per_component(scripts: Any) -> None:
    volumes = torch.rand(30, 16, 6, 8, generator=torch.Generator().manual_seed(0))
    plan = scripts.plan_components.VolumePlan(
        2, (6, 8), {"position_rel": [0.0, 1.0]}, [], "position_rel"
    )
    plan.fit(volumes, torch.zeros(30, 1), 30)
    shown = np.asarray(scripts.plan_components.picture(plan))
    enlarged = scripts.plan_components.ENLARGED
    assert shown.shape == (4 * 8 * enlarged, 8 * 6 * enlarged)
    small, large, *_ = np.split(shown, 4)
    assert not np.array_equal(small, large)
