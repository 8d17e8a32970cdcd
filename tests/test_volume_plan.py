"""The plan of a volume: a linear Gaussian model of blurred volumes, read by the prior."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny_prior
from made_run import FACTOR, SIZE, make_run
from scipy import ndimage
from skimage.measure import block_reduce
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score

from monai_vqbrain.inferers import AncestralSampler, PlainSampler, VolumeSampler
from monai_vqbrain.networks import PixelCNN
from monai_vqbrain.networks.conditions import condition_row
from monai_vqbrain.networks.plan import (
    EMPHASIS,
    LEVELS,
    SMOOTHING,
    VolumePlan,
    _tangents,
    number_of_components,
)
from monai_vqbrain.runs.codes import code_items
from monai_vqbrain.runs.conditions import conditions_of_row, of_participants, prior_conditions
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.networks import load_network
from monai_vqbrain.runs.plans import (
    _moved,
    blurred_volume,
    few_participants,
    fit_plan,
    plan_residuals,
    with_plans,
)
from monai_vqbrain.runs.stacks import read_slices
from monai_vqbrain.runs.tables import read_slices_table
from monai_vqbrain.stages.reporting.membership_audit import measure_membership, undescribed
from monai_vqbrain.stages.sample import SampleOptions, draw_samples
from monai_vqbrain.stages.train import train

KNOWN = {"diagnosis": ["AD", "CN"], "age": [55.0, 95.0], "position_rel": [0.2, 0.8]}
WHO = ["diagnosis", "age"]
GRID = (4, 6)
SPLITS = (("validation", "test"), ("validation",))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cohort(number: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Volumes in which age darkens one voxel, AD brightens another, and noise does both."""
    rows = torch.full((number, 3), 0.5)
    rows[:, 0] = (torch.rand(number, generator=seeded(1)) < 0.5).float()
    rows[:, 1] = 55 + 40 * torch.rand(number, generator=seeded(2))
    volumes = torch.zeros(number, LEVELS, *GRID)
    noise = torch.randn(number, 2, generator=seeded(3))
    volumes[:, :, 1, 1] = (5 - 0.1 * rows[:, 1] + noise[:, 0])[:, None]
    volumes[:, :, 2, 4] = (3 * (rows[:, 0] == 0) + noise[:, 1])[:, None]
    return volumes, rows


def fitted(components: int = 2, participants: int = 60) -> VolumePlan:
    plan = VolumePlan(components, GRID, KNOWN, WHO, "position_rel")
    plan.fit(*cohort(), participants)
    return plan


def original(plan: VolumePlan, drawn: torch.Tensor) -> torch.Tensor:
    """Plans in the units of the volumes."""
    return drawn * plan.scale + plan.mean.mean()


def smooth_volume() -> np.ndarray:
    """A smooth one, (LEVELS, 24, 20), that ends within its borders."""
    rng, grid = np.random.default_rng(0), (LEVELS, 24, 20)
    window = np.zeros(grid)
    window[5:-5, 7:-7, 6:-6] = 1 + rng.random((LEVELS - 10, 10, 8))
    return ndimage.gaussian_filter(window, 1.5)


def moved(volume: np.ndarray, size: float, levels: float) -> np.ndarray:
    """The volume scaled within its slices about its centre of mass, and shifted along the levels.

    By SciPy.
    """
    scale = np.array([1, 1 / size, 1 / size])
    centre = np.array(ndimage.center_of_mass(volume))
    offset = centre - scale * (centre + np.array([levels, 0, 0]))
    return np.asarray(ndimage.affine_transform(volume, scale, offset, order=5))


def test_tangents_are_small_changes_of_size_and_level_by_scipy() -> None:
    volume = smooth_volume()
    tangents = _tangents(torch.from_numpy(volume)).numpy()
    assert tangents @ tangents.T == pytest.approx(np.eye(2), abs=1e-9)
    larger, higher = (
        (moved(volume, *change) - volume).ravel() for change in ((1.01, 0), (1, 0.05))
    )
    assert tangents[0] @ larger > 0.99 * np.linalg.norm(larger)
    higher = higher - (tangents[0] @ higher) * tangents[0]
    assert tangents[1] @ higher > 0.99 * np.linalg.norm(higher)


@pytest.mark.parametrize(
    ("grid", "equal", "number"),
    [((4, 6), False, 2), ((4, 6), True, 1), ((4, 1), False, 2), ((1, 1), False, 1)],
)
def test_a_change_that_is_none_is_no_component(
    grid: tuple[int, int], equal: bool, number: int
) -> None:
    volumes = torch.rand(30, LEVELS, *grid, generator=seeded())
    if equal:  # a slice per volume
        volumes = volumes[:, :1].expand(30, LEVELS, *grid)
    plan = VolumePlan(2, grid, KNOWN, WHO, "position_rel")
    plan.fit(volumes, torch.full((30, 3), math.nan), 30)
    assert plan.components.flatten(1).any(1).sum() == number
    assert plan.spread.any(1).sum() == number


@pytest.mark.parametrize(("participants", "number"), [(15, 1), (29, 1), (30, 2), (39, 2)])
def test_a_plan_of_few_participants_describes_their_size_and_level(
    participants: int, number: int
) -> None:
    rng, mean = np.random.default_rng(1), smooth_volume()
    sizes, levels = rng.normal(1, 0.03, participants), rng.normal(0, 0.2, participants)
    volumes = np.stack([moved(mean, s, t) for s, t in zip(sizes, levels, strict=True)])
    plan = VolumePlan(10, mean.shape[1:], KNOWN, WHO, "position_rel")
    rows = torch.full((participants, 3), math.nan)
    found = torch.from_numpy(volumes).float()
    plan.fit(found, rows, participants)
    wanted = _tangents(found.double().mean(0))[:number].float()
    torch.testing.assert_close(plan.components.flatten(1)[:number], wanted)
    assert not plan.components[number:].any()
    coefficients = plan.coefficients(found, rows)[:, :number]
    truth = np.column_stack((sizes, levels))[:, :number]
    fit = LinearRegression().fit(coefficients, truth)
    assert fit.score(coefficients, truth) > 0.9
    own = plan.spread[:number, :number]  # and no noise beside it
    torch.testing.assert_close(own @ own, coefficients.T.cov().reshape(number, number))


def test_components_are_those_of_smooth_volumes_by_scikit_learn() -> None:
    volumes = cohort()[0]
    plan = VolumePlan(2, GRID, KNOWN, [], "position_rel")  # no condition explains any
    plan.fit(*cohort(), 60)
    torch.testing.assert_close(plan.mean, volumes.mean(0))
    sigma = (0, 0, GRID[0] / SMOOTHING, GRID[1] / SMOOTHING)
    differences = (volumes - volumes.mean(0)).numpy()
    smooth = ndimage.gaussian_filter(differences, sigma, mode="constant", truncate=4)
    theirs = PCA(2).fit(smooth.reshape(len(volumes), -1)).components_
    found = plan.components.flatten(1).numpy()
    # MONAI's kernel is blurred a little more than SciPy's, which samples the Gaussian
    assert np.abs((found * theirs).sum(1)) == pytest.approx(1, abs=0.01)
    differences = differences.reshape(len(volumes), -1)
    kept = ((differences @ found.T) ** 2).sum(1) / (differences**2).sum(1)
    assert plan.residuals(volumes).numpy() == pytest.approx(1 - kept, abs=1e-4)


def test_the_first_component_is_what_conditions_explain_by_scikit_learn() -> None:
    volumes, rows = cohort()
    volumes = volumes + 3 * torch.randn(60, 1, *GRID, generator=seeded(4))  # hides it
    plan = VolumePlan(3, GRID, KNOWN, WHO, "position_rel")
    plan.fit(volumes, rows, 60)
    flat = volumes.flatten(1).double().numpy()
    parts = [LinearRegression().fit(x, flat).predict(x) for x in (rows[:, :1], rows[:, 1:2])]
    strongest = max(parts, key=lambda part: part.var(0).sum())
    theirs = PCA(1).fit(strongest).components_[0]
    found = plan.components.flatten(1).numpy()
    assert abs(found[0] @ theirs) > 0.99
    assert found[1:] @ found[1:].T == pytest.approx(np.eye(2), abs=1e-5)
    principal = PCA(3).fit(flat).components_
    assert np.linalg.norm(principal @ theirs) < np.linalg.norm(found @ theirs)
    differences = flat - flat.mean(0)
    basis = np.linalg.qr(found.T)[0]
    lacking = 1 - ((differences @ basis) ** 2).sum(1) / (differences**2).sum(1)
    assert plan.residuals(volumes).numpy() == pytest.approx(lacking, abs=1e-4)


def test_conditions_determine_the_coefficients_of_what_they_explain() -> None:
    volumes, rows = cohort()
    plan = fitted()
    own = plan.coefficients(volumes, rows)
    torch.testing.assert_close(own[:, 0], plan._expected(rows)[:, 0])
    assert not torch.allclose(own[:, 1], plan._expected(rows)[:, 1])
    explained = own[:, 0] / EMPHASIS
    expected = plan.mean + torch.einsum("b,lhw->blhw", explained, plan.components[0])
    rest = (volumes - expected).flatten(1) @ plan.components[1].flatten()
    torch.testing.assert_close(own[:, 1], rest)
    drawn = plan.draw(rows[:1].repeat(500, 1), seeded())
    around = (original(plan, drawn) - plan.mean[8]).flatten(1)
    assert torch.linalg.matrix_rank(around - around.mean(0), rtol=1e-3) == 1


def test_plans_follow_age_and_diagnosis_as_the_cohort_does() -> None:
    plan, (volumes, rows) = fitted(4, 80), cohort()
    design = np.column_stack([rows[:, 0], rows[:, 1], np.ones(len(rows))])
    wanted = np.linalg.lstsq(design, volumes[:, 0, 1, 1].numpy(), rcond=None)[0][1]
    asked = torch.tensor([[math.nan, age, 0.5] for age in (60, 90)]).repeat_interleave(2000, 0)
    young, old = original(plan, plan.draw(asked, seeded()))[:, 1, 1].split(2000)
    assert float(old.mean() - young.mean()) / 30 == pytest.approx(EMPHASIS * wanted, rel=0.2)
    group = np.linalg.lstsq(design, volumes[:, 0, 2, 4].numpy(), rcond=None)[0][0]
    asked = torch.tensor([[who, math.nan, 0.5] for who in (0, 1)]).repeat_interleave(2000, 0)
    ad, cn = original(plan, plan.draw(asked, seeded()))[:, 2, 4].split(2000)
    assert float(cn.mean() - ad.mean()) == pytest.approx(EMPHASIS * group, rel=0.2)
    assert float(cn.std()) == pytest.approx(1, abs=0.3)  # what conditions do not explain


def test_guidance_goes_beyond_the_effects() -> None:
    plan = fitted(4, 80)
    rows = torch.tensor([[0.0, 90.0, 0.5]])
    unknown = torch.tensor([[math.nan, math.nan, 0.5]])
    drawn = [plan.draw(rows, seeded(), guidance=g)[0, 1, 1] for g in (0.0, 1.0, 2.0)]
    assert float(drawn[0]) == pytest.approx(float(plan.draw(unknown, seeded())[0, 1, 1]), abs=1e-5)
    assert float(drawn[2] - drawn[1]) == pytest.approx(float(drawn[1] - drawn[0]), abs=1e-5)
    base = torch.tensor([[0.0, math.nan, 0.5]])  # guided by age alone
    same = [plan.draw(rows, seeded(), base, g)[0, 2, 4] for g in (1.0, 3.0)]
    assert float(same[1] - same[0]) == pytest.approx(0, abs=0.1 * EMPHASIS)
    assert abs(float(drawn[1] - drawn[0])) > 0.1


def test_a_plan_between_two_levels_is_between_theirs() -> None:
    plan = fitted()
    torch.nn.init.normal_(plan.mean)
    where = torch.tensor([0.2, 0.43, 0.5, 0.8, 1.0, math.nan])
    found = original(plan, plan.at(torch.zeros(1, 2), where[None])[0])
    levels = np.linspace(0.2, 0.8, LEVELS)
    wanted = [np.interp(x, levels, plan.mean[:, 1, 2].numpy()) for x in where[:5].numpy()]
    assert found[:5, 1, 2].numpy() == pytest.approx(np.array(wanted), abs=1e-5)
    assert found[5].isnan().all()


def test_slices_of_a_volume_share_its_plan() -> None:
    plan = fitted()
    rows = torch.tensor([[0.0, 70.0, 0.2], [0.0, 70.0, 0.2]]).expand(3, 2, 3)
    drawn = plan.draw(rows, seeded())
    assert drawn.shape == (3, 2, *GRID)
    assert torch.equal(drawn[:, 0], drawn[:, 1])
    assert not torch.equal(drawn[0], drawn[1])


def test_few_volumes_give_few_components() -> None:
    plan = VolumePlan(8, GRID, KNOWN, WHO, "position_rel")
    volumes, rows = cohort(59)
    plan.fit(volumes + torch.rand(volumes.shape, generator=seeded()), rows, 59)
    assert plan.components.flatten(1).any(1).tolist() == [True] * 3 + [False] * 5
    assert len(plan.draw(rows, seeded())) == 59


def test_a_plan_of_one_component_shows_what_conditions_explain() -> None:
    plan, (volumes, rows) = fitted(1, 80), cohort()
    torch.testing.assert_close(plan.coefficients(volumes, rows), plan._expected(rows))
    drawn = [plan.draw(rows, seeded(seed)) for seed in (0, 1)]
    assert torch.equal(*drawn)  # nothing is left to chance


def test_conditions_explain_little_of_noise() -> None:
    plan, rows = VolumePlan(1, GRID, KNOWN, WHO, "position_rel"), cohort(15)[1]
    volumes = torch.randn(15, LEVELS, *GRID, generator=seeded())
    plan.fit(volumes, rows, 15)
    expected = plan._expected(rows)[:, 0].var() / plan.coefficients(volumes, rows)[:, 0].var()
    assert expected < 0.5


@pytest.mark.parametrize(("participants", "number"), [(14, 0), (15, 1), (34, 2), (500, 10)])
def test_there_is_a_component_per_15_participants(participants: int, number: int) -> None:
    assert number_of_components(10, participants) == number


def test_wrong_plans_are_named() -> None:
    with pytest.raises(ValueError, match="must be a numeric condition, got diagnosis"):
        VolumePlan(2, GRID, KNOWN, WHO, "diagnosis")
    plan = VolumePlan(2, GRID, KNOWN, WHO, "position_rel")
    assert not plan.fitted
    with pytest.raises(ValueError, match="needs volumes that differ, got 15 of one kind"):
        plan.fit(torch.ones(15, LEVELS, *GRID), cohort(15)[1], 15)
    with pytest.raises(ValueError, match="needs at least 15 participants, got 9"):
        plan.fit(*cohort(60), 9)


def prior(**settings: Any) -> PixelCNN:
    """A small prior in float64 with a plan that matters to it."""
    torch.manual_seed(0)
    known = {"conditions": KNOWN, "late_conditions": WHO, "plan": 2, "neighbour": True}
    network = PixelCNN(6, GRID, 8, 2, **known | settings)  # type: ignore[arg-type]
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    assert network.plan is not None
    network.plan.fit(*cohort(), 60)
    return network.double()


ROWS = torch.tensor([[0.0, 60.0, 0.3], [1.0, 90.0, 0.7]]).double()


@pytest.mark.parametrize("settings", [{}, {"scan": "columns"}, {"plan_channels": 3}], ids=str)
@pytest.mark.parametrize("guidance", [1.0, 1.5])
def test_cached_and_plain_draw_the_same_plans_and_codes(
    settings: dict[str, Any], guidance: float
) -> None:
    network = prior(**settings)
    cached = AncestralSampler(guidance=guidance)(network, 2, seeded(), ROWS)
    assert torch.equal(cached, PlainSampler(guidance=guidance)(network, 2, seeded(), ROWS))


def test_samples_follow_the_plan() -> None:
    network, sampler = prior(), AncestralSampler()
    plan = network.draw_plan(ROWS, seeded(7))
    given = sampler(network, 2, seeded(), ROWS, plan=plan)
    nothing = torch.full((2, *GRID), math.nan)
    without = sampler(network, 2, seeded(), ROWS, plan=nothing)
    assert not torch.equal(given, without)
    known = torch.full((2, *GRID), -1)  # nothing is known, and no plan is drawn for what is
    assert torch.equal(sampler(network, 2, seeded(), ROWS, known=known), without)


def test_a_volume_has_one_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    network, drawn = prior(), []
    assert network.plan is not None
    draw = network.plan.draw

    def noted(rows: torch.Tensor, *others: Any) -> torch.Tensor:
        drawn.append(tuple(rows.shape))
        return draw(rows, *others)

    monkeypatch.setattr(network.plan, "draw", noted)
    rows = ROWS[:1].repeat(3, 1)
    assert VolumeSampler(AncestralSampler())(network, 2, seeded(), rows).shape == (2, 3, *GRID)
    assert drawn == [(2, 3, 3)]


def test_a_prior_without_a_plan_takes_none() -> None:
    network = PixelCNN(6, GRID, 8, 2, conditions={"age": [55.0, 95.0]}, plan=2)
    assert network.plan is None  # no position, no plan
    assert network.draw_plan(torch.tensor([[60.0]]), seeded()) is None
    with pytest.raises(ValueError, match="rows of 2 conditions: this prior has others"):
        prior().draw_plan(ROWS[:, :2], seeded())
    with pytest.raises(ValueError, match="trained without a plan: give none"):
        network(torch.zeros(1, *GRID, dtype=torch.long), plan=torch.zeros(1, *GRID))


def run_prior(path: Path) -> tuple[Any, PixelCNN]:
    run = make_run(path, samples=False)
    known = prior_conditions(run.path)
    side = SIZE // FACTOR
    network = PixelCNN(
        16, (side, side), 8, 2, conditions=known, late_conditions=of_participants(known), plan=2
    )
    return run, network


def test_a_blurred_volume_is_the_mean_of_each_codes_pixels(tmp_path: Path) -> None:
    run, network = run_prior(tmp_path / "run")
    assert network.plan is not None
    slices = read_slices_table(run)
    part = slices[slices["stack"] == slices["stack"].iloc[0]]
    network.plan.low, network.plan.high = (part["position_rel"].agg(end) for end in ("min", "max"))
    found = blurred_volume(run, part, network)
    first = block_reduce(read_slices(run, part)[0][0] / 255, (FACTOR, FACTOR), np.mean)
    assert found[0].numpy() == pytest.approx(first, abs=1e-6)
    backwards = blurred_volume(run, part.iloc[::-1], network)
    assert torch.allclose(found, backwards)


@pytest.mark.parametrize(
    ("least", "explained", "few"), [(6, 6, False), (6, 7, True), (7, 8, False)]
)
def test_participants_are_few_if_there_is_a_plan_but_conditions_explain_none_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, least: int, explained: int, few: bool
) -> None:
    run = make_run(tmp_path / "run", samples=False)  # 6 training participants, 7 stacks
    monkeypatch.setattr("monai_vqbrain.runs.plans.PARTICIPANTS", least)
    monkeypatch.setattr("monai_vqbrain.runs.plans.EXPLAINED", explained)
    assert few_participants(run.path) is few
    assert not few_participants(tmp_path)  # nothing is encoded there
    assert few_participants(tmp_path, {"plan_channels": 16})
    assert not few_participants(tmp_path, {"plan_channels": None})


def test_a_plan_counts_participants_not_volumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, network = run_prior(tmp_path / "run")
    table = run.codes / "codes.tsv"
    rows = pd.read_csv(table, sep="\t", dtype=str)
    training = rows[rows["split"] == "training"]
    assert training["stack"].nunique() >= 3
    monkeypatch.setattr("monai_vqbrain.networks.plan.PARTICIPANTS", 3)
    monkeypatch.setattr("monai_vqbrain.runs.plans.PARTICIPANTS", 3)
    rows.loc[training.index, "participant_id"] = "sub-01"  # all of them are visits of one
    rows.to_csv(table, sep="\t", index=False)
    assert network.plan is not None
    assert not fit_plan(network, run.path).plan.fitted


def test_the_spread_is_what_conditions_leave_of_the_coefficients() -> None:
    volumes, rows = cohort()
    plan = fitted(4, 60)
    own = plan.spread.any(1)
    remainder = (plan.coefficients(volumes, rows) - plan._expected(rows))[:, own]
    found = plan.spread[own][:, own]
    free = len(rows) - 1 - torch.linalg.matrix_rank(plan._described(rows) - plan.centre)
    torch.testing.assert_close(
        found @ found.T, remainder.T @ remainder / free, rtol=1e-2, atol=1e-3
    )


def test_training_slices_get_the_plan_of_their_own_volume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, network = run_prior(tmp_path / "run")
    items = code_items(run.path, "training", None, network.settings["conditions"])
    assert with_plans(items, run.path, network) == items  # not fitted yet
    fit_plan(network, run.path)
    assert network.plan is not None
    assert not network.plan.fitted  # too few volumes
    monkeypatch.setattr("monai_vqbrain.networks.plan.PARTICIPANTS", 3)
    monkeypatch.setattr("monai_vqbrain.runs.plans.PARTICIPANTS", 3)
    fit_plan(network, run.path)
    assert network.plan.fitted
    planned = with_plans(items, run.path, network)
    assert all(item["plan"].shape == (SIZE // FACTOR, SIZE // FACTOR) for item in planned)
    brainless = [item["plan"].isnan().all() for item in planned]
    assert 0 < sum(brainless) < len(planned) / 2
    slices = read_slices_table(run)
    part = slices[slices["stack"] == slices["stack"].iloc[0]]
    about = conditions_of_row(part.iloc[0], network.settings["conditions"])
    row = condition_row(network.settings["conditions"], about)[None]
    own = network.plan.coefficients(blurred_volume(run, part, network)[None], row)
    column = next(name for name in network.settings["conditions"] if name.startswith("position"))
    wanted = network.plan.at(own, torch.tensor([float(part[column].iloc[0])]))[0]
    torch.testing.assert_close(planned[0]["plan"], wanted)


@pytest.mark.parametrize(("participants", "told"), [(39, False), (120, True)])
def test_members_of_a_plan_are_told_by_what_its_principal_components_lack(
    participants: int, told: bool
) -> None:
    noise = np.random.default_rng(0).normal(size=(2, 39, LEVELS, 24, 20))
    folded = ndimage.gaussian_filter(noise, (0, 0, 1, 1, 1))
    members, others = torch.from_numpy(smooth_volume() * (1 + folded)).float()
    plan = VolumePlan(8, (24, 20), KNOWN, [], "position_rel")
    plan.fit(members, torch.full((39, 3), math.nan), participants)
    lacking = torch.cat((plan.residuals(members), plan.residuals(others)))
    auc = roc_auc_score(np.r_[np.zeros(39), np.ones(39)], lacking)
    assert (auc > 0.8) if told else (0.4 < auc < 0.6)


def test_a_views_plan_is_moved_with_it() -> None:
    plan = torch.rand(8, 8, generator=seeded())
    for shift in ((2.0, 0.0), (-0.5, 1.25)):
        found = _moved(plan, torch.tensor(shift))
        wanted = ndimage.shift(plan.numpy(), shift, order=1, mode="nearest")
        assert found.numpy()[2:-2, 2:-2] == pytest.approx(wanted[2:-2, 2:-2], abs=1e-5)
    assert _moved(plan, torch.zeros(2)) is plan


def test_only_what_describes_participants_is_missing_in_the_reference() -> None:
    items = [{"condition": torch.tensor([0.0, 70.0, 0.5]), "other": 1}]
    found = undescribed(prior(), items)
    assert found[0]["condition"].isnan().tolist() == [True, True, False]
    assert found[0]["condition"][2] == 0.5
    assert found[0]["other"] == 1
    assert items[0]["condition"].tolist() == [0, 70, 0.5]


def test_a_trained_prior_has_its_plan_and_the_audit_tries_it(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monai_vqbrain.networks.plan.PARTICIPANTS", 3)
    monkeypatch.setattr("monai_vqbrain.runs.plans.PARTICIPANTS", 3)
    shutil.copytree(trained_run, tmp_path / "run")
    train(tmp_path / "run", "prior", tiny_prior(epochs=3))
    run = RunFolder(tmp_path / "run")
    network: Any = load_network(run.prior)
    assert network.plan.fitted
    assert network.plan_reader.out.weight.any()  # it was learnt
    found = measure_membership(run, "cpu")
    assert set(found["scores"]) == {
        "bits",
        "bits_minus_unconditional",
        "bits_minus_undescribed",
        "bits_minus_unplanned",
        "plan",
    }
    alone = measure_membership(run, "cpu", held_out=("validation",))
    table = read_slices_table(run)
    counts = {s: table.loc[table["split"].isin(s), "participant_id"].nunique() for s in SPLITS}
    assert found["other_participants"] == counts["validation", "test"]
    assert alone["other_participants"] == counts["validation",] < counts["validation", "test"]
    lacking = plan_residuals(run, network, ["training", "test"])
    assert all(0 <= value <= 1 for value in lacking.values())
    drawn = draw_samples(run.path, SampleOptions(number=2, volume=True, name="volumes"))
    assert len(list(drawn.glob("*.nii.gz"))) == 2
