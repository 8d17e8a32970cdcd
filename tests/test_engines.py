"""Engines: what an iteration takes, leaves and learns, for both networks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.inferers import SimpleInferer
from torch import nn

from monai_vqbrain.engines import (
    CodeBitsLoss,
    PriorBatch,
    PriorEvaluator,
    PriorTrainer,
    SamplingEngine,
    VQVAEEvaluator,
    VQVAETrainer,
)
from monai_vqbrain.engines.prior import batch_seed
from monai_vqbrain.inferers import (
    AncestralSampler,
    PixelCNNInferer,
    VolumeSampler,
    VQVAEInferer,
    code_bits,
)
from monai_vqbrain.networks import BrainVQVAE, PixelCNN

K = 16


def vqvae() -> BrainVQVAE:
    torch.manual_seed(0)
    return BrainVQVAE(width=8, blocks=(1, 1), num_codes=K, code_dim=4)


def prior() -> PixelCNN:
    torch.manual_seed(0)
    return PixelCNN(num_codes=K, grid=(4, 4), channels=8, layers=1)


def image_batches(number: int = 1) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(1)
    return [
        {"image": torch.rand(3, 1, 16, 16, generator=generator), "participant_id": ["a", "a", "b"]}
        for _ in range(number)
    ]


def code_batches() -> list[dict[str, Any]]:
    codes = torch.randint(K, (3, 4, 4), generator=torch.Generator().manual_seed(2))
    return [{"codes": codes, "participant_id": ["a", "a", "b"]}]


def state_of(network: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[key], other[key]) for key in one)


def train(kind: type, network: nn.Module, batches: list[dict[str, Any]], epochs: int) -> Any:
    trainer = kind(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=batches,
        network=network,
        optimizer=torch.optim.Adam(network.parameters(), 0.01),
    )
    losses = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: losses.append(float(engine.state.output["loss"]))
    )
    trainer.run()
    return trainer, losses


def test_vqvae_trainer_learns_and_leaves_the_reconstruction() -> None:
    network = vqvae()
    trainer, losses = train(VQVAETrainer, network, image_batches(), epochs=30)
    assert losses[-1] < 0.8 * losses[0]
    output = trainer.state.output
    assert output["pred"].shape == output["image"].shape == (3, 1, 16, 16)
    assert not output["pred"].requires_grad
    assert torch.equal(output["label"], output["image"])
    assert set(output["losses"]) == {"l1", "quantizer"}
    assert sum(output["losses"].values()).item() == pytest.approx(losses[-1])
    assert network.quantizer.initialised


def test_vqvae_evaluator_gives_codes_and_reconstructions_and_learns_nothing() -> None:
    network, batch = vqvae().train(), image_batches()[0]
    before = state_of(network)
    evaluator = VQVAEEvaluator(device="cpu", val_data_loader=[batch], network=network)
    evaluator.run()
    output = evaluator.state.output
    assert same(before, network.state_dict())
    assert network.training
    assert torch.equal(output["codes"], network.eval().index_quantize(batch["image"]))
    assert torch.allclose(output["pred"], network(batch["image"]), atol=1e-6)
    assert output["participant_id"] == ["a", "a", "b"]


def test_reconstructions_have_the_size_of_their_images() -> None:
    batch = {"image": torch.rand(2, 1, 18, 15)}  # no multiples of the factor
    evaluator = VQVAEEvaluator(device="cpu", val_data_loader=[batch], network=vqvae())
    evaluator.run()
    assert evaluator.state.output["pred"].shape == batch["image"].shape
    assert evaluator.state.output["codes"].shape == (2, 5, 4)


def test_code_loss_is_in_bits() -> None:
    codes = code_batches()[0]["codes"]
    assert CodeBitsLoss()(torch.zeros(3, K, 4, 4), codes).item() == pytest.approx(4)  # log2(16)
    logits = torch.randn(3, K, 4, 4, generator=torch.Generator().manual_seed(0))
    chances = logits.softmax(1).gather(1, codes[:, None])
    assert CodeBitsLoss()(logits, codes).item() == pytest.approx(-chances.log2().mean().item())


def test_prior_trainer_learns_its_slices() -> None:
    _, losses = train(PriorTrainer, prior(), code_batches(), epochs=60)
    assert losses[0] == pytest.approx(4, abs=0.2)  # a fresh prior is nearly uniform
    assert losses[-1] < 1


def test_prior_evaluator_gives_the_bits_of_each_code() -> None:
    network, batch = prior(), code_batches()[0]
    evaluator = PriorEvaluator(device="cpu", val_data_loader=[batch], network=network)
    evaluator.run()
    with torch.no_grad():
        chances = network.eval()(batch["codes"]).softmax(1).gather(1, batch["codes"][:, None])
    assert torch.allclose(evaluator.state.output["bits"], -chances[:, 0].log2(), atol=1e-5)
    assert evaluator.state.output["participant_id"] == ["a", "a", "b"]


def test_swapped_codes_come_from_the_same_place_of_another_slice() -> None:
    codes = torch.arange(4)[:, None, None].expand(4, 30, 30) + 10 * torch.arange(30)  # (B, h, w)
    torch.manual_seed(0)
    inputs, targets, _, given = PriorBatch(swapped=0.5)({"codes": codes}, torch.device("cpu"))
    assert torch.equal(targets, codes)
    assert torch.equal(inputs // 10, codes // 10)
    assert 0.2 < (inputs != codes).float().mean() < 0.5  # a slice may be its own other
    assert given == {}
    assert torch.equal(PriorBatch()({"codes": codes}, torch.device("cpu"))[0], codes)


def test_conditions_slices_before_and_plans_are_hidden_now_and_then() -> None:
    size = 4000
    batch = {
        "codes": torch.zeros(size, 2, 3, dtype=torch.long),
        "condition": torch.ones(size, 2),
        "neighbour": torch.ones(size, 2, 3, dtype=torch.long),
        "plan": torch.ones(size, 2, 3),
    }
    torch.manual_seed(0)
    shares = {"hidden": 0.2, "alone": 0.5, "without_plan": 0.3}
    *_, given = PriorBatch(**shares)(batch, torch.device("cpu"))
    hidden = given["condition"].isnan()
    assert hidden[:, 0].float().mean() == pytest.approx(1 - 0.8**2, abs=0.03)
    assert hidden.all(1).float().mean() == pytest.approx(0.2 + 0.8 * 0.2**2, abs=0.03)
    alone = (given["neighbour"] == -1).flatten(1)
    assert (alone.all(1) | ~alone.any(1)).all()  # the whole slice or nothing of it
    assert alone[:, 0].float().mean() == pytest.approx(0.5, abs=0.03)
    without = given["plan"].isnan().flatten(1)
    assert torch.equal(without.all(1), without.any(1))
    assert without[:, 0].float().mean() == pytest.approx(0.3, abs=0.03)
    assert (without[:, 0] & alone[:, 0]).float().mean() == pytest.approx(0.15, abs=0.03)
    *_, given = PriorBatch()(batch, torch.device("cpu"))
    assert torch.equal(given["condition"], batch["condition"])
    assert torch.equal(given["neighbour"], batch["neighbour"])
    assert torch.equal(given["plan"], batch["plan"])


def test_slices_by_themselves_come_without_the_one_before() -> None:
    batch = {"codes": torch.zeros(2, 2, 3), "neighbour": torch.ones(2, 2, 3)}
    *_, given = PriorBatch(alone=1)(batch, torch.device("cpu"))
    assert given == {}
    with pytest.raises(ValueError, match=r"alone must lie in \[0, 1\], got 1.1"):
        PriorBatch(alone=1.1)


@pytest.mark.parametrize("name", ["swapped", "hidden", "without_plan"])
@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_out_of_range_is_named(name: str, share: float) -> None:
    with pytest.raises(ValueError, match=rf"{name} must lie in \[0, 1\), got {share}"):
        PriorBatch(**{name: share})


def test_prior_evaluator_scores_a_slice_by_itself_and_after_the_one_before() -> None:
    torch.manual_seed(0)
    network = PixelCNN(K, (4, 4), 8, 2, conditions={"age": [50, 90]}, neighbour=True)
    torch.nn.init.normal_(network.head.weight)
    torch.nn.init.normal_(network.neighbour.out.weight)  # as if trained
    batch = code_batches()[0]
    batch["condition"] = torch.tensor([[60.0], [70.0], [torch.nan]])
    batch["neighbour"] = batch["codes"].roll(1, 0)
    evaluator = PriorEvaluator(device="cpu", val_data_loader=[batch], network=network)
    evaluator.run()
    output = evaluator.state.output
    alone = code_bits(network, batch["codes"], batch["condition"])
    after = code_bits(network, batch["codes"], batch["condition"], batch["neighbour"])
    torch.testing.assert_close(output["bits"], alone)
    torch.testing.assert_close(output["bits_after"], after)
    assert not torch.allclose(alone, after)


def drawn(batches: Iterable[int], seed: int = 0) -> dict[int, dict[str, Any]]:
    """Batch number -> what the engine leaves of it."""
    engine = SamplingEngine(
        device="cpu",
        batches=batches,
        network=prior(),
        decoder=vqvae(),
        inferer=PixelCNNInferer(),
        batch_size=2,
        seed=seed,
    )
    found: dict[int, dict[str, Any]] = {}
    engine.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda e: found.update({e.state.output["batch"]: e.state.output}),
    )
    engine.run()
    return found


def test_a_batch_is_the_same_whichever_others_are_drawn() -> None:
    both, last = drawn([0, 1]), drawn(iter([1]))
    assert list(both) == [0, 1]
    assert torch.equal(both[1]["codes"], last[1]["codes"])
    assert torch.equal(both[1]["pred"], last[1]["pred"])
    assert not torch.equal(both[0]["codes"], both[1]["codes"])
    assert not torch.equal(drawn([0], seed=1)[0]["codes"], both[0]["codes"])


def test_samples_are_the_decoded_codes_in_range() -> None:
    output = drawn([0])[0]
    assert output["codes"].shape == (2, 4, 4)
    with torch.no_grad():
        expected = vqvae().decode_samples(output["codes"]).clamp(0, 1)
    assert torch.allclose(output["pred"], expected, atol=1e-6)


def test_volumes_are_decoded_slice_by_slice() -> None:
    network = PixelCNN(K, (4, 4), 8, 2, conditions={"age": [50, 90]}, neighbour=True)
    engine = SamplingEngine(
        device="cpu",
        batches=[0],
        network=network,
        decoder=vqvae(),
        inferer=PixelCNNInferer(VolumeSampler(AncestralSampler())),
        batch_size=2,
        given={"condition": torch.full((3, 1), 60.0)},
    )
    engine.run()
    codes, pred = engine.state.output["codes"], engine.state.output["pred"]
    assert codes.shape == (2, 3, 4, 4)
    with torch.no_grad():
        middle = vqvae().decode_samples(codes[:, 1]).clamp(0, 1)
    assert pred.shape == (*middle.shape, 3)
    torch.testing.assert_close(pred[..., 1], middle)


def test_seeds_of_batches_differ_and_fit_a_generator() -> None:
    seeds = [batch_seed(seed, batch) for seed in (0, 1, 2, 2**40) for batch in range(50)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


class Recording:
    """Notes the name of each method that an engine calls, and passes the call on."""

    def __init__(self, inferer: Any) -> None:
        self.inferer, self.calls = inferer, []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inferer, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            return method(*args, **kwargs)

        return call


@pytest.mark.parametrize(
    ("decode", "calls"), [(True, ["encode", "decode"]), (False, ["encode"])], ids=["both", "codes"]
)
def test_vqvae_evaluator_calls_the_inferer_of_its_config(decode: bool, calls: list[str]) -> None:
    inferer = Recording(VQVAEInferer())
    evaluator = evaluator_of(VQVAEEvaluator, vqvae(), image_batches(), inferer, decode=decode)
    evaluator.run()
    assert inferer.calls == calls
    assert ("pred" in evaluator.state.output) is decode


def test_prior_evaluator_calls_the_inferer_of_its_config() -> None:
    inferer = Recording(PixelCNNInferer())
    evaluator_of(PriorEvaluator, prior(), code_batches(), inferer).run()
    assert inferer.calls == ["get_likelihood"]


def test_sampling_engine_calls_the_inferer_of_its_config() -> None:
    inferer = Recording(PixelCNNInferer())
    SamplingEngine("cpu", [0, 1], prior(), vqvae(), inferer, batch_size=2).run()
    assert inferer.calls == ["sample", "sample"]


def evaluator_of(
    kind: type, network: nn.Module, batches: list[Any], inferer: Any = None, **options: Any
) -> Any:
    return kind(device="cpu", val_data_loader=batches, network=network, inferer=inferer, **options)


def test_vqvae_evaluator_refuses_an_inferer_without_its_methods() -> None:
    words = (
        "VQVAEEvaluator calls encode and decode of its inferer, and SimpleInferer has no encode "
        "and no decode: use VQVAEInferer, or an inferer with the same methods"
    )
    with pytest.raises(ValueError, match=words):
        evaluator_of(VQVAEEvaluator, vqvae(), [], SimpleInferer())


def test_prior_evaluator_refuses_an_inferer_without_a_likelihood() -> None:
    words = "PriorEvaluator calls get_likelihood of its inferer, and SimpleInferer has no get_likel"
    with pytest.raises(ValueError, match=words):
        evaluator_of(PriorEvaluator, prior(), [], SimpleInferer())


class SometimesBlank:
    """As bright as the row that it was given, but in the first calls blank from some image on."""

    def __init__(self, blank: int, first: int) -> None:
        self.blank, self.first, self.calls = blank, first, 0

    def sample(self, *_: Any, condition: torch.Tensor, **__: Any) -> tuple[torch.Tensor, ...]:
        self.calls += 1
        images = condition[:, :, None, None].expand(-1, 1, 4, 4).clone()
        if self.calls <= self.blank:
            images[self.first :] = 0
        return images, torch.full((len(images), 2, 2), self.calls)


@pytest.mark.parametrize(
    ("blank", "first", "codes"), [(0, 1, [1, 1, 1]), (2, 1, [1, 2, 3]), (9, 0, [6, 6, 6])]
)
def test_images_without_a_brain_are_drawn_again_under_their_own_conditions(
    blank: int, first: int, codes: list[int]
) -> None:
    inferer = SometimesBlank(blank, first)
    rows = {"condition": torch.tensor([[0.2], [0.4], [0.6]])}
    engine = SamplingEngine(
        "cpu", [0], prior(), vqvae(), inferer, batch_size=3, rows=rows, least_brain=0.05
    )
    engine.run()
    output = engine.state.output
    assert output["codes"][:, 0, 0].tolist() == codes  # which call each is of
    expected = [0, 0, 0] if first == 0 else [0.2, 0.4, 0.6]
    assert output["pred"].amax((1, 2, 3)).tolist() == pytest.approx(expected)


def test_sampling_engine_refuses_a_sampler_without_a_decoder() -> None:
    with pytest.raises(ValueError, match="SamplingEngine calls sample of its inferer, and Ancestr"):
        SamplingEngine("cpu", [0], prior(), vqvae(), AncestralSampler())


def engine_with(kind: type, handlers: Any = None, **options: Any) -> Any:
    """An engine of each kind, for one iteration over a batch of three (SamplingEngine: two)."""
    if kind is SamplingEngine:
        return kind(
            "cpu", [0], prior(), vqvae(), PixelCNNInferer(), 2, val_handlers=handlers, **options
        )
    network, batches = (
        (vqvae(), image_batches())
        if kind in (VQVAETrainer, VQVAEEvaluator)
        else (prior(), code_batches())
    )
    if kind in (VQVAEEvaluator, PriorEvaluator):
        return evaluator_of(kind, network, batches, val_handlers=handlers, **options)
    optimizer = torch.optim.Adam(network.parameters())
    return kind(
        device="cpu",
        max_epochs=1,
        train_data_loader=batches,
        network=network,
        optimizer=optimizer,
        train_handlers=handlers,
        **options,
    )


KINDS = (VQVAETrainer, VQVAEEvaluator, PriorTrainer, PriorEvaluator, SamplingEngine)


@pytest.mark.parametrize("kind", KINDS)
def test_disabled_handlers_are_left_out(kind: type) -> None:
    class Attached:
        def attach(self, engine: Any) -> None:
            self.engine = engine

    handler = Attached()
    engine = engine_with(kind, [None, handler, None])
    assert handler.engine is engine
    engine.run()


@pytest.mark.parametrize("kind", KINDS)
def test_output_stays_whole_unless_decollation_is_asked_for(kind: type) -> None:
    whole = engine_with(kind)
    whole.run()  # before the next is built: a codebook begins with global randomness
    split = engine_with(kind, decollate=True)
    split.run()
    output = whole.state.output
    name = "bits" if kind is PriorEvaluator else "pred"
    assert len(split.state.output) == len(output[name])
    for item, expected in zip(split.state.output, output[name], strict=True):
        torch.testing.assert_close(item[name], expected)
    if kind in (VQVAEEvaluator, PriorEvaluator):
        assert [item["participant_id"] for item in split.state.output] == output["participant_id"]


@pytest.mark.parametrize("kind", KINDS)
def test_postprocessing_changes_what_an_iteration_leaves(kind: type) -> None:
    def mark(item: dict[str, Any]) -> dict[str, Any]:
        return item | {"marked": True}

    engine = engine_with(kind, decollate=True, postprocessing=mark)
    engine.run()
    assert all(item["marked"] for item in engine.state.output)


@pytest.mark.cuda
def test_a_training_step_on_cuda_is_finite() -> None:
    network = vqvae().cuda()
    trainer = VQVAETrainer(
        device="cuda",
        max_epochs=1,
        train_data_loader=image_batches(2),
        network=network,
        optimizer=torch.optim.Adam(network.parameters()),
    )
    trainer.run()
    assert trainer.state.output["loss"].isfinite()
    evaluator = VQVAEEvaluator(device="cuda", val_data_loader=image_batches(), network=network)
    evaluator.run()
    assert evaluator.state.output["codes"].is_cuda
