"""The race against MONAI's VQVAE: its protocol, its figures, and how it continues when stopped."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import BENCHMARKS, benchmark_modules
from made_run import make_run
from skimage.metrics import structural_similarity

from monai_vqbrain.errors import VQBrainError

KEYS = (
    "ssim_brain_120s", "ssim_brain_300s", "ssim_brain_600s", "monai_ssim_brain_600s",
    "monai_further_ssim_brain_600s", "seconds_to_monai_600s", "seconds_to_monai_further_600s",
    "psnr_gain_db", "psnr_gain_further_db", "codes_used", "parameter_ratio",
    "ssim_brain_16x16_600s", "monai_ssim_brain_16x16_600s", "ssim_brain_256_600s",
    "monai_ssim_brain_256_600s", "ssim_gain_256", "ssim_over_pooling_256", "pooling_256",
    "black_128", "machine", "threads", "seeds", "split", "cpu_seconds",
)  # fmt: skip
EXCERPT = ["in-brain SSIM, 600 CPU-s", "budget that reaches MONAI at 600 s", "position_mean"]


@pytest.fixture(scope="module")
def benchmark() -> Iterator[SimpleNamespace]:
    """The benchmark's modules."""
    with benchmark_modules("race", "racers", "standings", "vqvae") as found:
        yield found


@pytest.fixture(scope="module")
def slices_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("race") / "run", prior=False).path


TWICE = """
import json, runpy, sys
from pathlib import Path

work, *options = sys.argv[1:]
sys.argv = ["vqvae.py", *options]
runpy.run_path("vqvae.py", run_name="__main__")

files = sorted(Path(work).glob("*.json"))
files[3].unlink()
files[7].write_text(json.dumps(json.loads(files[7].read_text()) | {"mark": "of other slices"}))
before = {file: file.stat().st_mtime_ns for file in files if file.exists()}
print("AGAIN", len(files))
runpy.run_path("vqvae.py", run_name="__main__")
print([n for n, file in enumerate(files) if file.stat().st_mtime_ns != before.get(file)])
"""


@pytest.fixture(scope="module")
def raced(slices_run: Path) -> str:
    """What two races printed, the second after a result was lost and another had removed stale."""
    work = slices_run.parent / "work"
    options = f"--run {slices_run} --run-256 {slices_run} --work {work} --cpu-seconds 0.1 --seeds 0"
    command = [sys.executable, "-c", TWICE, str(work), *options.split()]
    done = subprocess.run(
        [*command, "--json", str(slices_run.parent / "figures.json")],
        cwd=BENCHMARKS,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_race_prints_its_tables_and_writes_flat_figures(raced: str, slices_run: Path) -> None:
    people = (
        "21 slices of 6 participants to train on, 9 of 3 others to score; 12 slices with under 5%"
    )
    assert people in raced
    assert [words for words in EXCERPT if words not in raced] == []
    figures = json.loads((slices_run.parent / "figures.json").read_text())
    assert [key for key in KEYS if key not in figures] == []
    assert [k for k, v in figures.items() if isinstance(v, list | dict) and k != "seeds"] == []
    for key, job in {"": "ours", "monai_": "tuned", "monai_further_": "further"}.items():
        result = slices_run.parent / "work" / f"128-{job}-0.1s-seed0-test.json"
        assert figures[f"{key}ssim_brain_600s"] == json.loads(result.read_text())["ssim_brain"]


def test_a_stopped_race_goes_on_where_it_stopped(raced: str) -> None:
    first, second = raced.split("AGAIN 15\n")
    assert first.count(" left\n") == 15
    assert "15 jobs, 13 of them done before" in second
    assert second.count(" left\n") == 2
    assert second.endswith("[3, 7]\n")


class Dimmed:
    """Predicts slices that are darker and leave [0, 1]; its codes are two."""

    def eval(self) -> None:
        pass

    def named_buffers(self) -> list[tuple[str, torch.Tensor]]:
        return [("quantizer.codebook", torch.zeros(16, 2)), ("quantizer.counts", torch.zeros(16))]

    def parameters(self) -> list[torch.Tensor]:
        return [torch.zeros(3, 4)]

    def index_quantize(self, images: torch.Tensor) -> torch.Tensor:
        self.seen = images
        return (images[:, 0] > 0.5).long()

    def decode_samples(self, codes: torch.Tensor) -> torch.Tensor:
        return self.seen * 1.5 - 0.1


def test_the_score_is_the_protocols(benchmark: SimpleNamespace, slices_run: Path) -> None:
    slices = benchmark.race.load(slices_run, "test")
    found = benchmark.race.score(Dimmed(), slices)
    people: dict[str, list[list[float]]] = {}
    for image, mask, person in zip(slices.images, slices.masks, slices.participants, strict=True):
        scores = by_hand(image[0].numpy(), mask[0].numpy())
        people.setdefault(person, []).append(scores)
    expected = np.mean([np.mean(scores, axis=0) for scores in people.values()], axis=0)
    np.testing.assert_allclose([found[name] for name in benchmark.race.SCORES], expected, rtol=1e-4)
    assert found["codes_used"] == 2
    assert found["parameters"] == 3 * 4 + 16 * 2


def by_hand(image: np.ndarray, mask: np.ndarray) -> list[float]:
    """SSIM in the brain, of the whole image, PSNR in the brain, of the whole image."""
    guess = (image * 1.5 - 0.1).clip(0, 1)
    _, ssim = structural_similarity(
        guess, image, gaussian_weights=True, use_sample_covariance=False, data_range=1, full=True
    )
    error = (guess - image) ** 2
    psnr = [-10 * np.log10(e.mean()) for e in (error[mask], error)]
    return [ssim[mask].mean(), ssim.mean(), *psnr]


def test_trivial_predictors_score_black_nothing(
    benchmark: SimpleNamespace, slices_run: Path
) -> None:
    training, test = (benchmark.race.load(slices_run, s) for s in ("training", "test"))
    found = benchmark.race.trivial(training, test, 4)
    assert set(found) == {"black", "position_mean", "nearest", "pooling"}
    assert found["black"]["ssim_brain"] < 0.01 < found["black"]["ssim_whole"]
    assert found["pooling"]["ssim_brain"] > found["black"]["ssim_brain"]


def test_training_follows_cpu_time_and_ends_its_schedule_on_the_budget(
    benchmark: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(100, 200))
    fake = SimpleNamespace(process_time=lambda: next(clock))
    monkeypatch.setattr(benchmark.race, "time", fake)
    network = torch.nn.Conv2d(1, 1, 1)
    rates: list[float] = []

    def inferer(images: torch.Tensor, network: torch.nn.Module) -> torch.Tensor:
        rates.append(racer.optimizer.param_groups[0]["lr"])
        return network(images)

    racer = benchmark.racers.Racer(
        network, torch.optim.SGD(network.parameters(), 0.5), torch.nn.L1Loss(), inferer, 4,
        benchmark.racers.cosine,
    )  # fmt: skip
    found = benchmark.race.train(racer, slices_of_ones(benchmark, 9), 50)
    assert found == {"steps": 49, "cpu_seconds": 50, "slices_per_second": 4 * 49 / 50}
    expected = [0.5 * benchmark.racers.cosine(second / 50) for second in range(1, 50)]
    assert rates == pytest.approx(expected)
    assert rates[0] == 0.5
    assert rates[-1] < 0.001


def slices_of_ones(benchmark: SimpleNamespace, count: int) -> Any:
    images = torch.ones(count, 1, 8, 8)
    return benchmark.race.Slices(images, images > 0, np.arange(count), ["sub-01"] * count)


@pytest.mark.parametrize(("slices", "sizes"), [(8, [4, 4]), (10, [4, 4]), (3, [3])], ids=str)
def test_batches_are_shuffled_epochs_without_the_rest(
    benchmark: SimpleNamespace, slices: int, sizes: list[int]
) -> None:
    batches = benchmark.race.draw(slices, 4)
    for _ in range(2):
        epoch = [next(batches) for _ in sizes]
        assert [len(batch) for batch in epoch] == sizes
        assert len(torch.cat(epoch).unique()) == sum(sizes)


def test_ours_races_as_it_ships(benchmark: SimpleNamespace) -> None:
    config = BENCHMARKS.parent / "bundles" / "vqvae" / "configs" / "train.json"
    shipped = json.loads(config.read_text())
    racer = benchmark.racers.build("ours", "128", seed=0)
    group = racer.optimizer.param_groups[0]
    assert group["lr"] == shipped["optimizer"]["lr"]
    assert list(group["betas"]) == shipped["optimizer"]["betas"]
    assert racer.batch_size == shipped["batch_size"]
    assert type(racer.loss).__name__ == shipped["loss"]["_target_"]
    assert type(racer.inferer).__name__ == shipped["train"]["inferer"]["_target_"]
    assert group["params"][0] is next(racer.network.parameters())


def test_monais_bfloat16_is_for_where_the_processor_has_it(benchmark: SimpleNamespace) -> None:
    amp = {name: benchmark.racers.build(name, "128", 0).inferer.amp for name in ("tuned", "small")}
    assert amp == {"tuned": False, "small": "auto"}


@pytest.mark.parametrize(
    ("file", "matters"),
    [
        *((f"networks/{name}.py", True) for name in ("vqvae", "quantizer", "nearest", "gradient")),
        ("networks/fsq.py", True),
        ("losses/ssim.py", True),
        ("networks/pixelcnn.py", False),
        ("networks/conditions.py", False),
        (None, True),  # racers.py itself
    ],
)
def test_a_result_is_stale_when_what_it_rests_on_changed(
    benchmark: SimpleNamespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str | None,
    matters: bool,
) -> None:
    racers, package = benchmark.racers, tmp_path / "monai_vqbrain"
    copied = tmp_path / "racers.py"
    shutil.copytree(Path(racers.monai_vqbrain.__file__).parent, package)
    shutil.copy(racers.__file__, copied)
    monkeypatch.setattr(racers, "monai_vqbrain", SimpleNamespace(__file__=package / "__init__.py"))
    monkeypatch.setattr(racers, "__file__", str(copied))
    settings = [racers.settings_of(name) for name in ("ours", "further")]
    before = [racers.fingerprint(one) for one in settings]
    with (package / file if file else copied).open("a") as code:
        code.write("# changed\n")
    assert [racers.fingerprint(one) != old for one, old in zip(settings, before, strict=True)] == [
        matters, matters,
    ]  # fmt: skip


def test_what_the_config_does_in_a_step_is_raced_too(
    benchmark: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    parser = benchmark.racers.train_config()
    parser["ema"] = 0.5
    crop = {"_target_": "RandSpatialCropd", "keys": ["image"], "roi_size": [16, 16]}
    parser["train"]["preprocessing"]["transforms"].append(crop | {"random_size": False})
    monkeypatch.setattr(benchmark.racers, "train_config", lambda: parser)
    racer = benchmark.racers.build("ours", "128", seed=0)
    images = torch.rand(4, 1, 32, 32)
    slices = benchmark.race.Slices(images, images > 0.5, np.arange(4), ["sub-01"] * 4)
    cropped = benchmark.race.batch(slices, torch.arange(4), racer.transform)
    assert cropped.shape == (4, 1, 16, 16)
    benchmark.race.step(racer, cropped)
    weights = list(racer.network.parameters())
    assert not torch.equal(weights[0], next(racer.averaged.parameters()))


def test_all_racers_of_a_race_spend_the_same_bits(benchmark: SimpleNamespace) -> None:
    images = torch.rand(1, 1, 128, 128)
    for race, grid in {"128": (1, 32, 32), "16x16": (1, 16, 16), "256": (1, 32, 32)}.items():
        for name in ("ours", "tuned", "further"):
            network = benchmark.racers.build(name, race, seed=0).network.eval()
            assert network.index_quantize(images).shape == grid
            assert network.num_embeddings == 512


def test_seeds_decide_the_weights(benchmark: SimpleNamespace) -> None:
    first, same, other = (
        next(benchmark.racers.build("tuned", "128", seed).network.parameters())
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_monais_quantizer_stays_exact_under_autocast(benchmark: SimpleNamespace) -> None:
    network = benchmark.racers.build("small", "128", seed=0).network.eval()
    encodings = torch.randn(2, 64, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        quantised, loss = network.quantize(encodings)
    expected, expected_loss = network.quantize(encodings)
    torch.testing.assert_close(quantised, expected, rtol=0, atol=0)
    torch.testing.assert_close(loss, expected_loss, rtol=0, atol=0)


def test_jobs_alternate_and_share_the_budgets_that_two_parts_want(
    benchmark: SimpleNamespace,
) -> None:
    jobs = benchmark.vqvae.plan(["128", "budgets"], ["ours", "tuned", "further"], [0])
    assert [(job.racer, job.budget) for job in jobs] == [
        ("ours", 600), ("tuned", 600), ("ours", 300), ("further", 600), ("ours", 160),
        ("ours", 120), ("ours", 100), ("ours", 80), ("ours", 60),
    ]  # fmt: skip
    jobs = benchmark.vqvae.plan(["256"], ["ours", "tuned"], [0, 1])
    assert [(job.race, job.racer, job.seed) for job in jobs] == [
        ("256", "ours", 0), ("256", "tuned", 0), ("256", "ours", 1), ("256", "tuned", 1),
    ]  # fmt: skip


RUN = dict.fromkeys(
    ("ssim_brain", "ssim_whole", "psnr_brain", "psnr_whole", "codes_used", "slices_per_second"), 0.0
)


def runs(ssim: list[float], psnr: float = 30, size: int = 100) -> list[dict[str, float]]:
    return [RUN | {"ssim_brain": s, "psnr_whole": psnr, "parameters": size} for s in ssim]


@pytest.mark.parametrize(
    ("monai", "seconds"), [(0.80, 60), (0.84, 100), (0.845, 120), (0.9, None)], ids=str
)
def test_figures_are_medians_and_compare_with_the_peer(
    benchmark: SimpleNamespace, monai: float, seconds: int | None
) -> None:
    ours = {60: 0.82, 80: 0.83, 100: 0.84, 120: 0.85, 160: 0.86, 600: 0.88}
    results = {("128", "ours", b): runs([0.1, s, 0.99]) for b, s in ours.items()}
    results["128", "tuned", 600] = runs([monai], 27.2, 250)
    found = benchmark.standings.figures(results, {"128": {"black": RUN}})
    assert found["seconds_to_monai_600s"] == seconds
    assert found["psnr_gain_db"] == pytest.approx(2.8)
    assert found["parameter_ratio"] == 0.4
    spread = [found[f"ssim_brain_600s{end}"] for end in ("", "_low", "_high")]
    assert spread == [0.88, 0.1, 0.99]
    assert "psnr_gain_further_db" not in found


def test_what_is_not_finite_becomes_null(benchmark: SimpleNamespace) -> None:
    found = benchmark.standings.figures({("128", "ours", 120): runs([float("nan")])}, {})
    assert found["ssim_brain_120s"] is None
    assert benchmark.standings.table({("128", "ours", 120): runs([float("nan")])}, {}, found)


@pytest.mark.parametrize(
    ("value", "less", "words"),
    [
        (0.85, False, "missed"),
        (0.885, False, "must met"),
        (0.91, False, "aim met"),
        (None, False, "missed"),
        (0.91, True, "must met"),
        (0.95, True, "missed"),
    ],
    ids=str,
)
def test_verdicts(benchmark: SimpleNamespace, value: float | None, less: bool, words: str) -> None:
    limits = (0.92, 0.8) if less else (0.885, 0.91)
    goal = benchmark.standings.Goal("SSIM", "ssim", *limits, less=less)
    assert benchmark.standings.verdict(goal, value) == words


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("", "128 needs slices: give --data DIR or --run RUN"),
        ("--run R", "256 needs slices: give --data DIR or --run-256 RUN"),
        ("--data D --jobs 0", "--cpu-seconds must be above 0, and --jobs from 1 to the number of"),
        ("--data D --cpu-seconds 0", "--cpu-seconds must be above 0"),
    ],
    ids=str,
)
def test_wrong_options(
    benchmark: SimpleNamespace, capsys: pytest.CaptureFixture[str], options: str, words: str
) -> None:
    with pytest.raises(SystemExit):
        benchmark.vqvae.parse(options.split())
    assert words in capsys.readouterr().err


def test_slices_are_prepared_by_the_protocol(
    benchmark: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(
        benchmark.vqvae, "prepare", lambda _, run, **how: asked.append((str(run), how))
    )
    args = benchmark.vqvae.parse(["--data", "D", "--work", "W"])
    assert benchmark.vqvae.slices_of("16x16", args) == Path("W/slices-128")
    assert benchmark.vqvae.slices_of("256", args) == Path("W/slices-256")
    assert asked == [
        ("W/slices-128", {"size": (128, 128), "spacing": 1.8}),
        ("W/slices-256", {"size": (256, 256), "spacing": 0.9}),
    ]


def test_a_job_that_fails_stops_the_race(
    benchmark: SimpleNamespace, slices_run: Path, tmp_path: Path
) -> None:
    args = SimpleNamespace(work=tmp_path, cpu_seconds=600.0, split="test")
    job = benchmark.vqvae.Job("128", "ours", 120, 0)
    task = benchmark.vqvae.task_of(job, slices_run, args)
    words = "128-ours-120s-seed0-test stopped: see above; done jobs are kept"
    with pytest.raises(VQBrainError, match=words):
        benchmark.vqvae.run_all([task], {}, 1)  # no slices: the job ends with a KeyError
