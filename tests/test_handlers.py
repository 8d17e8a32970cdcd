"""Handlers on MONAI's engines: metrics, budget, checkpoints, records, and the files they leave."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from ignite.engine import Engine, Events
from ignite.exceptions import NotComputableError
from ignite.metrics import Metric
from monai.engines import Evaluator, SupervisedEvaluator
from monai.engines.utils import IterationEvents
from monai.handlers import ValidationHandler, from_engine
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import nn

from monai_vqbrain import progress
from monai_vqbrain.errors import ComponentError
from monai_vqbrain.handlers import (
    BitsPerCode,
    BrainPSNR,
    BrainSSIM,
    CodeBits,
    CodebookPerplexity,
    CodesUsed,
    CollectCodes,
    EngineCallbacks,
    ImagePanel,
    MetricsTable,
    ParticipantMean,
    ResumableCheckpoint,
    SampleFiles,
    SeedEpochs,
    SliceScores,
    StopWithoutProgress,
    TrainingBudget,
    WholeSSIM,
)
from monai_vqbrain.handlers.batch import as_batch
from monai_vqbrain.handlers.codebook import CodeCount
from monai_vqbrain.handlers.samples import tile

SIZE = (16, 24)  # (W, H), unequal so that a transposed picture shows
PEOPLE = [["a", "a"], ["b"]]  # two batches: the means over slices and over participants differ


def evaluator(
    outputs: list[dict[str, Any]],
    metrics: Mapping[str, Metric] | None = None,
    handlers: Iterable[Any] = (),
) -> Evaluator:
    """MONAI's evaluator over outputs made beforehand; the first metric is the key metric."""
    key, *more = metrics.items() if metrics else [(None, None)]
    return Evaluator(
        device="cpu",
        val_data_loader=outputs,
        iteration_update=lambda _, batch: batch,
        key_val_metric=None if key[0] is None else dict([key]),
        additional_metrics=dict(more),
        val_handlers=list(handlers),
        decollate=False,
    )


def reconstructions() -> list[dict[str, Any]]:
    """What a VQVAEEvaluator leaves of three slices of two participants, in two batches."""
    rng = np.random.default_rng(0)
    outputs = []
    for batch, people in enumerate(PEOPLE):
        image = torch.from_numpy(rng.random((len(people), 1, *SIZE), dtype=np.float32))
        noise = torch.from_numpy(rng.normal(0, 0.2, image.shape).astype(np.float32))
        mask = torch.zeros(image.shape, dtype=torch.bool)
        mask[..., 2:-3, 4:-2] = True
        outputs.append(
            {
                "image": image,
                "pred": image + (1 + batch) * noise,  # not clipped: scores clip it
                "mask": mask,
                "codes": torch.full((len(people), 2, 2), batch),
                "bits": torch.full((len(people), 2, 2), 1.0 + 3 * batch),
                "participant_id": people,
                "session_id": ["n/a"] * len(people),
                "axis": ["axial"] * len(people),
                "index": torch.arange(len(people)),
            }
        )
    return outputs


def oracle(score: Callable[..., float]) -> list[float]:
    """A score of (prediction, image, mask), (W, H) arrays, for each of the three slices."""
    return [
        score(pred.clamp(0, 1).numpy()[0], image.numpy()[0], mask.numpy()[0])
        for output in reconstructions()
        for pred, image, mask in zip(output["pred"], output["image"], output["mask"], strict=True)
    ]


def ssim_map(pred: np.ndarray, image: np.ndarray) -> np.ndarray:
    return structural_similarity(
        image,
        pred,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1,
        full=True,
    )[1]


ORACLES: dict[str, tuple[type[ParticipantMean], Callable[..., float]]] = {
    "ssim_brain": (BrainSSIM, lambda pred, image, mask: ssim_map(pred, image)[mask].mean()),
    "ssim_whole": (WholeSSIM, lambda pred, image, mask: ssim_map(pred, image).mean()),
    "psnr_brain": (
        BrainPSNR,
        lambda pred, image, mask: peak_signal_noise_ratio(image[mask], pred[mask], data_range=1),
    ),
}


@pytest.mark.parametrize("name", ORACLES)
def test_key_metric_is_scikit_images_mean_over_people_of_their_means(name: str) -> None:
    metric, score = ORACLES[name]
    engine = evaluator(reconstructions(), {name: metric()})
    engine.run()
    first, second, other = oracle(score)
    expected = ((first + second) / 2 + other) / 2  # not the mean of the three slices
    assert engine.state.best_metric == pytest.approx(expected, abs=1e-4)
    engine.run()
    assert engine.state.metrics[name] == pytest.approx(expected, abs=1e-4)  # nothing kept


# MONAI's own evaluator decollates its output: a list with a dictionary per item.


def metrics() -> dict[str, Metric]:
    """Every metric of an output, each made as by default."""
    fidelity = {name: metric() for name, (metric, _) in ORACLES.items()}
    return fidelity | {
        "bits_per_code": BitsPerCode(),
        "codes_used": CodesUsed(8),
        "perplexity": CodebookPerplexity(8),
    }


def selecting_metrics() -> dict[str, Metric]:
    """The same, each told by MONAI's from_engine what to take."""
    keys = from_engine(["pred", "image", "mask", "participant_id"])
    fidelity = {name: metric(keys) for name, (metric, _) in ORACLES.items()}
    return fidelity | {
        "bits_per_code": BitsPerCode(from_engine(["bits"])),
        "codes_used": CodesUsed(8, from_engine(["codes"])),
        "perplexity": CodebookPerplexity(8, from_engine(["codes"])),
    }


def supervised(decollate: bool, made: Mapping[str, Metric], handlers: Iterable[Any] = ()) -> Any:
    """MONAI's SupervisedEvaluator over the reconstructions."""

    def update(engine: Engine, batch: dict[str, Any]) -> Any:
        engine.state.output = dict(batch)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)  # decollates
        return engine.state.output

    (key, metric), *more = made.items()
    return SupervisedEvaluator(
        device="cpu",
        val_data_loader=reconstructions(),
        network=nn.Identity(),
        iteration_update=update,
        key_val_metric={key: metric},
        additional_metrics=dict(more),
        val_handlers=list(handlers),
        decollate=decollate,
    )


@pytest.mark.parametrize("made", [metrics, selecting_metrics])
def test_metrics_are_the_same_of_a_decollated_output(made: Callable[[], Any]) -> None:
    whole, parted = supervised(False, made()), supervised(True, made())
    for engine in (whole, parted):
        engine.run()
    assert isinstance(parted.state.output, list)
    assert isinstance(whole.state.output, dict)
    assert parted.state.metrics == pytest.approx(whole.state.metrics, abs=1e-7)
    assert whole.state.metrics["codes_used"] == 2


def test_handlers_leave_the_same_of_a_decollated_output(tmp_path: Path) -> None:
    collected = []
    for decollate in (False, True):
        folder, codes = tmp_path / str(decollate), CollectCodes(3)
        handlers = [
            SliceScores(folder / "fidelity.tsv"),
            CodeBits(folder / "bits.tsv"),
            ImagePanel(folder / "panel.png"),
            codes,
        ]
        supervised(decollate, metrics(), handlers).run()
        collected.append(codes.codes())
    assert torch.equal(*collected)
    for name in ("fidelity.tsv", "bits.tsv", "panel.png"):
        made = [(tmp_path / folder / name).read_bytes() for folder in ("False", "True")]
        assert made[0] == made[1], name


def test_a_batch_is_made_of_every_form_of_an_output() -> None:
    items = [{"x": torch.tensor([n]), "name": f"item-{n}"} for n in (3, 5)]
    x, names = torch.tensor([[3], [5]]), ["item-3", "item-5"]
    batch = as_batch(items)
    assert torch.equal(batch["x"], x)
    assert batch["name"] == names
    assert as_batch(batch) is batch
    picked = as_batch(from_engine(["x", "name"])(items))
    assert torch.equal(picked[0], x)
    assert picked[1] == names
    for one in (from_engine(["x"])(items), from_engine(["x"])(batch)):  # a list, a tuple of one
        assert torch.equal(as_batch(one), x)


def test_a_metric_takes_what_a_transform_gives() -> None:
    output = reconstructions()[0]
    metric = BrainSSIM(lambda o: (o["y"], o["y"], o["m"], o["who"]))
    renamed = {"y": output["image"], "m": output["mask"], "who": output["participant_id"]}
    engine = evaluator([renamed], {"ssim": metric})
    engine.run()
    assert engine.state.metrics["ssim"] == pytest.approx(1)


def test_codes_are_counted_over_the_epoch_not_a_batch() -> None:
    codes = [{"codes": torch.zeros(4, 3, 3).long()}, {"codes": torch.full((4, 1, 9), 7)}]
    metrics = {"used": CodesUsed(8), "perplexity": CodebookPerplexity(8)}
    engine = evaluator(codes, metrics)
    for _ in range(2):
        engine.run()
        # each batch has one code; ignite's own means over batches would give 1
        assert engine.state.metrics == {"used": 2, "perplexity": pytest.approx(2)}


def test_bits_are_a_mean_over_codes() -> None:
    engine = evaluator(reconstructions(), {"bits": BitsPerCode()})
    engine.run()
    assert engine.state.metrics["bits"] == (2 * 1 + 1 * 4) / 3  # batches of two slices and of one


@pytest.mark.parametrize(
    ("metric", "what"),
    [
        (BrainSSIM(), "no slice was seen"),
        (CodesUsed(4), "no code was seen"),
        (CodebookPerplexity(4), "no code was seen"),
        (BitsPerCode(), "no code was seen"),
    ],
)
def test_an_empty_data_set_is_named(metric: Metric, what: str) -> None:
    with pytest.raises(NotComputableError, match=f"{what}: the evaluation's data set is empty"):
        metric.compute()


def test_counting_codes_is_abstract() -> None:
    with pytest.raises(NotImplementedError):
        CodeCount(4).reduce(np.ones(4))


# The budget and when to stop: an engine whose iteration takes one second of a made clock.


class Clock:
    """Seconds as the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        fake = SimpleNamespace(monotonic=lambda: self.now)
        monkeypatch.setattr("monai_vqbrain.handlers.budget.time", fake)

    def tick(self, engine: Engine, batch: Any) -> dict[str, torch.Tensor]:
        self.now += 1
        return {"loss": torch.tensor(0.5)}


def optimizer(*rates: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": r} for r in rates])


def rates_of(engine: Engine, chosen: torch.optim.Optimizer) -> list[list[float]]:
    """The rates of every iteration to come."""
    found: list[list[float]] = []
    engine.add_event_handler(
        Events.ITERATION_STARTED,
        lambda: found.append([group["lr"] for group in chosen.param_groups]),
    )
    return found


def cosine(done: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * done))


def test_the_rate_warms_up_and_falls_like_a_cosine(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, adam = Engine(Clock(monkeypatch).tick), optimizer(1.0, 10.0)
    TrainingBudget(adam, warmup=0.4, what=None).attach(engine)
    found = rates_of(engine, adam)
    engine.run(range(5), max_epochs=2)
    expected = [0.25, 0.5, 0.75, 1, cosine(1 / 6), cosine(2 / 6), cosine(3 / 6)]
    assert [one for one, _ in found[:7]] == pytest.approx(expected)
    assert [ten for _, ten in found[:7]] == pytest.approx([10 * e for e in expected])
    assert found[-1] == pytest.approx([1e-3, 1e-2])  # never quite nothing


def test_the_schedule_may_start_again(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, sgd = Engine(Clock(monkeypatch).tick), optimizer(1.0)
    TrainingBudget(sgd, warmup=0, what=None, restart=0.5).attach(engine)
    found = rates_of(engine, sgd)
    engine.run(range(9), max_epochs=1)
    expected = [cosine(done / 9 * 2 % 1) for done in range(1, 9)]
    assert [rate for (rate,) in found[:8]] == pytest.approx(expected)


def test_minutes_end_the_epoch_and_complete_it(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, sgd, events = Engine(Clock(monkeypatch).tick), optimizer(1.0), []
    TrainingBudget(sgd, minutes=6 / 60, warmup=0, what=None).attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: events.append(e.state.iteration))
    engine.add_event_handler(Events.COMPLETED, lambda e: events.append("completed"))
    found = rates_of(engine, sgd)
    engine.run(range(4), max_epochs=1000)
    assert events == [4, 6, "completed"]  # the second epoch ends early, but is completed
    assert [r for (r,) in found] == pytest.approx([cosine(i / 6) for i in range(6)])


def test_minutes_are_carried_over(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    first, engine = TrainingBudget(optimizer(1.0), minutes=6 / 60, what=None), Engine(clock.tick)
    first.attach(engine)
    engine.run(range(4), max_epochs=1)
    saved = first.state_dict()
    assert saved["seconds"] == 4.0
    clock.now += 3600  # the time between two processes does not count
    second, engine = TrainingBudget(optimizer(1.0), minutes=6 / 60, what=None), Engine(clock.tick)
    second.attach(engine)
    second.load_state_dict(saved)
    engine.run(range(4), max_epochs=1000)
    assert (engine.state.iteration, second.spent()) == (2, 6.0)


def test_the_budget_shows_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LOG_EVERY", 0.0)
    clock = Clock(monkeypatch)
    engine = Engine(clock.tick)
    TrainingBudget(optimizer(1.0), what="train it").attach(engine)
    engine.run(range(4), max_epochs=1)
    shown = capsys.readouterr().err
    assert re.search(r"train it: 100%\|#+\| 4/4 \[\d\d:\d\d<00:00, .*, loss=0.5000\]", shown)


def test_the_steps_of_a_budget_in_minutes_are_estimated_from_its_share(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LOG_EVERY", 0.0)
    engine = Engine(Clock(monkeypatch).tick)  # 1 s per step
    TrainingBudget(optimizer(1.0), minutes=8 / 60, what="train it").attach(engine)
    engine.run(range(4), max_epochs=100)
    shown = capsys.readouterr().err
    assert re.search(r"train it:  50%\|.*\| 4/8 \[", shown)
    assert re.search(r"train it: 100%\|.*\| 8/8 \[", shown)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"minutes": 0}, "minutes must be positive, got 0"),
        ({"minutes": math.nan}, "minutes must be positive, got nan"),
        ({"restart": 1.0}, r"restart must lie in \(0, 1\), got 1.0"),
        ({"warmup": 1}, r"warmup must lie in \[0, 1\), got 1"),
        ({"warmup": -0.1}, r"warmup must lie in \[0, 1\), got -0.1"),
    ],
)
def test_wrong_budgets_are_named(arguments: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TrainingBudget(optimizer(1.0), **arguments)


def test_a_failure_is_passed_on_and_closes_the_bar() -> None:
    handler: Any = TrainingBudget(optimizer(1.0))

    def fail(engine: Engine, batch: int) -> dict[str, torch.Tensor]:
        if batch == 1:
            raise RuntimeError("out of memory")
        return {"loss": torch.tensor(0.5)}

    engine = Engine(fail)
    handler.attach(engine)
    with pytest.raises(RuntimeError, match="out of memory"):
        engine.run(range(3))
    assert handler._bar.disable  # tqdm's mark of a closed bar


def scored(scores: list[float]) -> Evaluator:
    """An evaluator whose key metric is the epoch's score."""

    def update(engine: Engine, _: Any) -> dict[str, torch.Tensor]:
        return {"bits": torch.tensor([scores[engine.state.epoch - 1]])}

    return Evaluator(
        device="cpu",
        val_data_loader=[0],
        iteration_update=update,
        key_val_metric={"score": BitsPerCode()},
        decollate=False,
    )


@pytest.mark.parametrize(
    ("scores", "share", "epochs"),
    [
        ([1, 2, 3, 4, 5, 6], 1.0, 6),  # always better
        ([3, 2, 1, 4, 5, 6], 1.0, 3),  # two worse ones
        ([3, 2, 1, 4, 5, 6], 0.4, 6),  # too early in the budget to judge
        ([1, 2, 1, 3, 1, 1], 1.0, 6),  # one worse one is borne
        ([1, 1, 1, 1, 1, 1], 1.0, 3),  # as good is no progress
    ],
)
def test_training_stops_without_progress(scores: list[float], share: float, epochs: int) -> None:
    validator, engine = scored(scores), Engine(lambda *_: None)
    budget = SimpleNamespace(fraction=lambda _: share, restart=None)
    stop = StopWithoutProgress(validator, 2, budget)  # type: ignore[arg-type]
    for handler in (ValidationHandler(1, validator), stop):
        handler.attach(engine)
    completed = []
    engine.add_event_handler(Events.COMPLETED, lambda e: completed.append(e.state.epoch))
    engine.run([0], max_epochs=6)
    assert completed == [epochs]  # what ends a training still runs


@pytest.mark.parametrize(
    ("scores", "bad", "epoch"), [([math.nan], "nan", 1), ([2, math.inf, 3], "inf", 2)]
)
def test_a_training_that_diverges_fails_before_anything_of_it_is_saved(
    tmp_path: Path, scores: list[float], bad: str, epoch: int
) -> None:
    validator, engine = scored(scores), Engine(lambda *_: None)
    whole = SimpleNamespace(fraction=lambda _: 1.0)
    for handler in (
        ValidationHandler(1, validator),
        ResumableCheckpoint(tmp_path, {"network": nn.Linear(1, 1)}, validator),
        StopWithoutProgress(validator, 2, whole),  # type: ignore[arg-type]
    ):
        handler.attach(engine)
    words = f"diverged: score is {bad} in epoch {epoch}; the result of an earlier training is kept;"
    with pytest.raises(ComponentError, match=words):
        engine.run([0], max_epochs=3)
    saved = [torch.load(path, weights_only=True) for path in tmp_path.glob("checkpoint.pt")]
    assert [state["epoch"] for state in saved] == list(range(1, epoch))
    assert len(list(tmp_path.glob("model.pt"))) == len(saved)


def test_a_training_never_validated_goes_on() -> None:
    engine = Engine(lambda *_: None)
    whole = SimpleNamespace(fraction=lambda _: 1.0)
    StopWithoutProgress(scored([]), 2, whole).attach(engine)  # type: ignore[arg-type]
    engine.run([0], max_epochs=5)
    assert engine.state.epoch == 5


def draws(seed: int, done: int = 0) -> list[float]:
    """A random number an epoch, of three epochs, the first `done` of them in another process."""
    engine, found = Engine(lambda *_: found.append(torch.rand(1).item())), []
    engine.add_event_handler(Events.STARTED, lambda e: setattr(e.state, "epoch", done))
    SeedEpochs(seed).attach(engine)
    torch.manual_seed(99)
    engine.run([0], max_epochs=3)
    return found


def test_each_epoch_has_its_own_seed() -> None:
    assert len({*draws(0), *draws(1)}) == 6
    assert draws(0, done=1) == draws(0)[1:]


# Checkpoints: a small regression instead of a network.


def training(folder: Path, width: int = 1, resume: bool = False) -> SimpleNamespace:
    """A trainer of a linear map with checkpoints; the second epoch scores best."""
    torch.manual_seed(5 if resume else 0)  # what is resumed must not start alike
    network = nn.Linear(2, width)
    sgd = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9)

    def step(engine: Engine, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        loss = (network(batch) - batch.sum(1, keepdim=True)).square().mean()
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        return {"loss": loss}

    engine, validator = Engine(step), scored([1, 4, 3, 2])
    budget = TrainingBudget(sgd, what=None)
    objects = {"network": network, "optimizer": sgd, "budget": budget}
    handlers = [
        ValidationHandler(1, validator),
        MetricsTable(folder / "metrics.tsv", validator, budget),
        ResumableCheckpoint(folder, objects, validator, resume),
        budget,
    ]
    for handler in handlers:
        handler.attach(engine)
    return SimpleNamespace(engine=engine, network=network, validator=validator, optimizer=sgd)


def fit(made: SimpleNamespace, kill_in: int | None = None) -> dict[str, torch.Tensor]:
    """Four epochs of two steps, or until killed; gives the weights."""
    if kill_in is not None:

        def kill(engine: Engine) -> None:
            if engine.state.epoch == kill_in:
                raise KeyboardInterrupt

        made.engine.add_event_handler(Events.ITERATION_COMPLETED, kill)
    batches = torch.linspace(-1, 1, 16).view(2, 4, 2)
    try:
        made.engine.run(list(batches), max_epochs=4)
    except KeyboardInterrupt:
        assert kill_in is not None
    return {key: value.clone() for key, value in made.network.state_dict().items()}


def test_a_killed_training_goes_on_as_if_unbroken(tmp_path: Path) -> None:
    whole = fit(training(tmp_path / "whole"))
    fit(training(tmp_path / "broken"), kill_in=3)
    made = training(tmp_path / "broken", resume=True)
    resumed = fit(made)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert (made.validator.state.best_metric, made.validator.state.best_metric_epoch) == (4, 2)
    tables = [pd.read_csv(tmp_path / n / "metrics.tsv", sep="\t") for n in ("whole", "broken")]
    assert tables[1].drop(columns="seconds").equals(tables[0].drop(columns="seconds"))


@pytest.mark.parametrize("file", ["metrics.tsv", "model.pt", "checkpoint.pt"])
def test_a_kill_at_any_file_of_an_epoch_loses_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    whole = fit(training(tmp_path / "whole"))
    replace, seen = Path.replace, []

    def killed(self: Path, target: Path) -> Path:
        """Killed before the file of the second epoch, the best, has its name."""
        seen.append(Path(target).name)
        if seen.count(file) == 2:
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        made = training(tmp_path / "broken")
        with pytest.raises(KeyboardInterrupt):
            made.engine.run(list(torch.linspace(-1, 1, 16).view(2, 4, 2)), max_epochs=4)
    if file != "model.pt":  # what is resumed begins with the best weights of its first epoch
        assert equal_weights(
            load(tmp_path / "broken", "checkpoint.pt")["network"], load(tmp_path / "broken")
        )
    resumed = fit(training(tmp_path / "broken", resume=True))
    assert equal_weights(whole, resumed)
    assert equal_weights(load(tmp_path / "whole"), load(tmp_path / "broken"))
    tables = [pd.read_csv(tmp_path / n / "metrics.tsv", sep="\t") for n in ("whole", "broken")]
    assert tables[1].drop(columns="seconds").equals(tables[0].drop(columns="seconds"))


def load(folder: Path, name: str = "model.pt") -> Any:
    return torch.load(folder / name, weights_only=True)


def equal_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_weights_that_are_no_part_of_a_checkpoint_are_not_written_by_resuming(
    tmp_path: Path,
) -> None:
    """As if a training were killed after its first epoch, the best."""
    validator, best = scored([1]), nn.Linear(1, 1)
    engine = Engine(lambda *_: None)
    objects = {"network": nn.Linear(1, 1)}
    for handler in (
        ValidationHandler(1, validator),
        ResumableCheckpoint(tmp_path, objects, validator, best=best),
    ):
        handler.attach(engine)
    engine.run([0], max_epochs=1)
    written = load(tmp_path)
    nn.init.zeros_(best.weight)
    other = Engine(lambda *_: None)
    ResumableCheckpoint(tmp_path, objects, validator, resume=True, best=best).attach(other)
    other.run([0], max_epochs=1)
    assert equal_weights(load(tmp_path), written)


def test_the_best_epochs_weights_are_kept(tmp_path: Path) -> None:
    made, weights = training(tmp_path), []
    made.engine.add_event_handler(
        Events.EPOCH_COMPLETED, lambda: weights.append(made.network.weight.detach().clone())
    )
    last = fit(made)
    best = torch.load(tmp_path / "model.pt", weights_only=True)
    assert torch.equal(best["weight"], weights[1])
    assert not torch.equal(best["weight"], last["weight"])
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert torch.equal(saved["network"]["weight"], last["weight"])
    assert (saved["epoch"], saved["iteration"]) == (4, 8)


def test_a_training_goes_back_to_its_best_weights_and_looks_for_a_new_best(tmp_path: Path) -> None:
    made, weights = training(tmp_path), []
    checkpoint = ResumableCheckpoint(tmp_path, {"network": made.network}, made.validator)

    @made.engine.on(Events.EPOCH_COMPLETED)
    def _(engine: Engine) -> None:
        weights.append(made.network.weight.detach().clone())
        if engine.state.epoch == 3:  # the second was the best
            checkpoint.restore_best()
            assert torch.equal(made.network.weight, weights[1])
            assert not torch.equal(weights[2], weights[1])

    fit(made)
    assert made.validator.state.best_metric_epoch == 4  # though worse than the second
    best = torch.load(tmp_path / "model.pt", weights_only=True)
    assert torch.equal(best["weight"], weights[3])


def test_resuming_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ComponentError,
        match=r"nothing to resume: .*pt is not there, so no training .*; train without resuming",
    ):
        fit(training(tmp_path, resume=True))


@pytest.mark.parametrize("other", ["network", "optimizer", "missing", "unknown"])
def test_resuming_another_configuration_is_refused(tmp_path: Path, other: str) -> None:
    fit(training(tmp_path))
    if other == "network":
        made = training(tmp_path, width=3, resume=True)
    else:
        saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
        if other == "optimizer":
            saved["optimizer"]["param_groups"] *= 2
        elif other == "missing":
            del saved["budget"]
        else:
            saved["average"] = saved["network"]
        torch.save(saved, tmp_path / "checkpoint.pt")
        made = training(tmp_path, resume=True)
    words = "made with another configuration; train without resuming"
    with pytest.raises(ComponentError, match=words):
        fit(made)


def test_metrics_table_has_a_row_an_epoch(tmp_path: Path) -> None:
    made, losses = training(tmp_path), []
    made.engine.add_event_handler(
        Events.ITERATION_COMPLETED, lambda e: losses.append(e.state.output["loss"].item())
    )
    fit(made)
    table = pd.read_csv(tmp_path / "metrics.tsv", sep="\t")
    names = ["epoch", "iteration", "seconds", "learning_rate", "loss", "score"]
    assert list(table.columns) == names
    assert table["epoch"].tolist() == [1, 2, 3, 4]
    assert table["iteration"].tolist() == [2, 4, 6, 8]
    assert table["score"].tolist() == [1, 4, 3, 2]
    assert table["loss"].tolist() == pytest.approx(np.reshape(losses, (4, 2)).mean(1), rel=1e-5)
    assert table["learning_rate"].iloc[-1] == pytest.approx(0.05 * 1e-3)


# Functions of a configuration.


def test_callbacks_are_called_with_the_engine_as_it_starts_and_has_completed() -> None:
    engine, called = Engine(lambda *_: called.append("step")), []
    callbacks = EngineCallbacks(
        lambda e: called.append(("started", e.state.epoch)),
        lambda e: called.append(("completed", e.state.epoch)),
    )
    callbacks.attach(engine)
    engine.run([0], max_epochs=2)
    assert called == [("started", 0), "step", "step", ("completed", 2)]


# What evaluations leave.


def test_slice_scores_are_a_row_a_slice(tmp_path: Path) -> None:
    evaluator(reconstructions(), handlers=[SliceScores(tmp_path / "new" / "fidelity.tsv")]).run()
    table = pd.read_csv(tmp_path / "new" / "fidelity.tsv", sep="\t", keep_default_na=False)
    names = ["participant_id", "session_id", "axis", "index", *ORACLES, "psnr_whole"]
    assert list(table.columns) == names
    assert table["participant_id"].tolist() == ["a", "a", "b"]
    assert table["session_id"].tolist() == ["n/a"] * 3
    assert table["index"].tolist() == [0, 1, 0]
    scores = {name: score for name, (_, score) in ORACLES.items()}
    scores["psnr_whole"] = lambda pred, image, _: peak_signal_noise_ratio(image, pred, data_range=1)
    for name, score in scores.items():
        assert table[name].tolist() == pytest.approx(oracle(score), abs=1e-3)


def test_code_bits_are_of_the_whole_grid(tmp_path: Path) -> None:
    evaluator(reconstructions(), handlers=[CodeBits(tmp_path / "bits.tsv")]).run()
    table = pd.read_csv(tmp_path / "bits.tsv", sep="\t")
    assert table["participant_id"].tolist() == ["a", "a", "b"]
    assert table["bits"].tolist() == [4, 4, 16]


@pytest.mark.parametrize("count", [2, 3])
def test_codes_are_collected_in_order_without_the_padding(count: int) -> None:
    collect = CollectCodes(count)
    engine = evaluator(reconstructions(), handlers=[collect])
    for _ in range(2):
        engine.run()
        assert collect.codes()[:, 0, 0].tolist() == [0, 0, 1][:count]


@pytest.mark.parametrize(("columns", "shown"), [(1, 1), (2, 2), (6, 3)])
def test_a_panel_has_three_rows_and_the_front_at_the_top(
    tmp_path: Path, columns: int, shown: int
) -> None:
    outputs = reconstructions()
    for output in outputs:
        output["image"][:], output["pred"][:] = 0, 0.25
        output["image"][..., -1] = 1  # the front: the last of the second axis
    evaluator(outputs, handlers=[ImagePanel(tmp_path / "panel.png", columns)]).run()
    panel = np.asarray(Image.open(tmp_path / "panel.png")) / 255
    width, height = SIZE
    assert panel.shape == (3 * height, shown * width)
    images, predictions, differences = panel.reshape(3, height, -1)
    assert (images[0] == 1).all()
    assert (images[1:] == 0).all()
    assert predictions == pytest.approx(0.25, abs=0.01)
    assert differences[1:] == pytest.approx(1, abs=0.01)  # 0.5 + 2 * 0.25
    assert (differences[0] == 0).all()


AFFINE = np.array([[2.0, 0, 0, -15], [0, 2, 0, -23], [0, 0, 4, 7], [0, 0, 0, 1]])


def samples(folder: Path, number: int) -> SampleFiles:
    """Two batches of two images of which `number` are kept; the last column is brightest."""
    images = torch.zeros(2, 1, *SIZE)
    images[..., -1] = torch.tensor([0.5, 1.0])[:, None, None]
    outputs = [{"batch": batch, "pred": images} for batch in range(2)]
    places = np.stack([AFFINE + 0, AFFINE + 1, AFFINE + 2, AFFINE + 3])[:number]
    drawn = [f"sex={sex}" for sex in "FMMF"][:number]
    files = SampleFiles(folder, number, places, {"seed": 3, "prior_sha256": "abc"}, None, drawn)
    evaluator(outputs, handlers=[files]).run()
    return files


def test_samples_are_marked_and_placed(tmp_path: Path) -> None:
    samples(tmp_path, 3)
    stems = [f"sample-{n:04d}" for n in (1, 2, 3)]
    files = {f"{stem}.{kind}" for stem in stems for kind in ("nii.gz", "png")}
    assert {path.name for path in tmp_path.iterdir()} == files | {"samples.tsv", "overview.png"}

    table = pd.read_csv(tmp_path / "samples.tsv", sep="\t")
    assert table["sample"].tolist() == stems
    assert table[["batch", "place"]].to_numpy().tolist() == [[0, 0], [0, 1], [1, 0]]
    assert table["synthetic"].all()

    image = nib.load(tmp_path / "sample-0002.nii.gz")
    assert image.shape == (*SIZE, 1)
    assert image.get_data_dtype() == np.uint8
    assert image.get_fdata()[:, -1].max() == pytest.approx(1)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert image.header["descrip"].item() == b"synthetic, vqbrain, seed 3"
    np.testing.assert_array_equal(image.affine[:3], AFFINE[:3] + 1)
    marks = {"synthetic": True, "condition": "sex=M", "seed": 3, "prior_sha256": "abc"}
    marks |= {"batch": 0, "place": 1}
    assert json.loads(image.header.extensions[0].get_content()) == marks

    picture = Image.open(tmp_path / "sample-0001.png")
    first = {"place": "0", "condition": "sex=F"}
    assert picture.text == {key: str(value) for key, value in marks.items()} | first
    assert table["condition"].tolist() == ["sex=F", "sex=M", "sex=M"]
    assert picture.size == SIZE
    assert (np.asarray(picture)[0] == 128).all()  # the front is at the top


def test_a_sampled_volume_is_one_file_of_all_its_slices(tmp_path: Path) -> None:
    volumes = torch.rand(2, 1, 18, 26, 5)
    files = SampleFiles(tmp_path, 1, AFFINE, {"seed": 0}, SIZE)
    evaluator([{"batch": 0, "pred": volumes}], handlers=[files]).run()
    image = nib.load(tmp_path / "sample-0001.nii.gz")
    assert image.shape == (*SIZE, 5)
    np.testing.assert_allclose(image.get_fdata(), volumes[0, 0, :16, :24], atol=0.51 / 255)
    assert Image.open(tmp_path / "sample-0001.png").size == (3 * SIZE[0], 2 * SIZE[1])
    assert Image.open(tmp_path / "overview.png").size == SIZE  # its middle slice


@pytest.mark.parametrize(
    ("number", "shape"), [(1, (1, 1)), (2, (1, 2)), (3, (2, 2)), (5, (2, 3)), (9, (3, 3))]
)
def test_tiles_form_a_block(number: int, shape: tuple[int, int]) -> None:
    pictures = [np.full((2, 3), i + 1.0) for i in range(number)]
    block = tile(pictures)
    assert block.shape == (2 * shape[0], 3 * shape[1])
    corners = block[::2, ::3].ravel()
    assert corners[:number].tolist() == [i + 1.0 for i in range(number)]
    assert not corners[number:].any()
