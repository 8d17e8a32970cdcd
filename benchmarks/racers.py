"""Racers: our VQ-VAE as the bundle ships it, and MONAI's VQVAE under named settings."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine
from monai.bundle import ConfigParser
from monai.networks.nets import VQVAE
from monai.transforms import Compose, SelectItemsd
from monai.utils import set_determinism
from standings import RACES

import monai_vqbrain
from monai_vqbrain.inferers import MixedPrecisionInferer
from monai_vqbrain.losses import VQVAELoss
from monai_vqbrain.runs.bundles import bundle_folder
from monai_vqbrain.transforms import LoadSliced

Output = tuple[torch.Tensor, torch.Tensor]  # reconstruction (B, 1, W, H), quantizer loss

RESTS_ON = (
    "networks/fsq.py", "networks/gradient.py", "networks/nearest.py", "networks/quantizer.py",
    "networks/vqvae.py", "losses/*.py", "transforms/*.py", "metrics/ssim.py",
    "inferers/precision.py",
)  # fmt: skip


def step_engine(*handlers: Any) -> Engine:
    """An engine that runs nothing: the loop fires its events, and handlers hear them."""
    engine = Engine(lambda *_: None)
    for handler in handlers:
        handler.attach(engine)
    return engine


@dataclass(frozen=True)
class Racer:
    """A network with random weights, and all that trains it.

    Args:
        network: images (B, 1, W, H) to Output in training, with `index_quantize` and
            `decode_samples`.
        optimizer: its rates are the highest that it will have.
        loss: of (Output, images).
        inferer: of (images, network), gives Output.
        batch_size: slices per step.
        rate: the part of the budget that is spent, [0, 1], to the factor of the learning rates.
        transform: of a drawn slice, a dictionary of image and mask; None for none.
        engine: hears the events of each step.
        averaged: the network to score, if not the one that is trained.
    """

    network: Any
    optimizer: torch.optim.Optimizer
    loss: Callable[[Output, torch.Tensor], torch.Tensor]
    inferer: Callable[[torch.Tensor, Any], Output]
    batch_size: int
    rate: Callable[[float], float]
    transform: Compose | None = None
    engine: Engine = field(default_factory=step_engine)
    averaged: Any = None


@dataclass(frozen=True)
class Settings:
    """How MONAI's VQVAE is set up and trained; the defaults are those of its first tuning.

    Args:
        lr: of Adam, the highest.
        betas: of Adam.
        batch_size: slices per step.
        schedule: a key of SCHEDULES.
        decay: of its codebook's moving averages.
        commitment: weight of its commitment loss.
        bfloat16: autocast where the CPU computes in it, and weights channels-last; its quantizer
            stays in float32.
        our_loss: train on the loss of our bundle instead of L1.
        our_transforms: change drawn slices as our bundle does.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    batch_size: int = 16
    schedule: str = "constant"
    decay: float = 0.5
    commitment: float = 0.25
    bfloat16: bool = False
    our_loss: bool = False
    our_transforms: bool = False


SMALL = Settings(lr=2e-3, betas=(0.9, 0.95), batch_size=4, schedule="cosine", bfloat16=True)
MONAI = {
    "tuned": Settings(),
    "tuned-cosine": Settings(schedule="cosine"),
    "small": SMALL,
    "small-slow": replace(SMALL, lr=1e-3),
    "small-fast": replace(SMALL, lr=3e-3),
    "small-float32": replace(SMALL, bfloat16=False),
    "small-decay": replace(SMALL, decay=0.9),
    "small-our-loss": replace(SMALL, our_loss=True),
    "small-our-transforms": replace(SMALL, our_transforms=True),
    "small-ours": replace(SMALL, our_loss=True, our_transforms=True),
}
FURTHER = "small-ours"  # best on validation participants: all of ours but the network


def settings_of(name: str) -> Settings | None:
    """MONAI's settings by a racer's name; None for "ours"."""
    return None if name == "ours" else MONAI[FURTHER if name == "further" else name]


def build(name: str, race: str, seed: int) -> Racer:
    """A racer with random weights: "ours", "further" or a key of MONAI."""
    set_determinism(seed)
    settings = settings_of(name)
    shapes = RACES[race]
    return ours(shapes.ours) if settings is None else monai(settings, shapes.monai)


def ours(network: Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> Racer:
    """Our network and all that trains it, from the shipped train.json.

    Args:
        network: arguments of the network other than the configuration's.
        overrides: values by the configuration's ids.
    """
    parser = train_config()
    parser["network_def"].update(network)
    parser.update(dict(overrides or {}))
    get = parser.get_parsed_content
    average = get("average")  # the one handler that takes part in a step
    return Racer(
        network=get("network"),
        optimizer=get("optimizer"),
        loss=get("loss"),
        inferer=get("train#inferer"),
        batch_size=get("batch_size"),
        rate=partial(cosine, warmup=get("budget").warmup),
        transform=after_loading(get("train#preprocessing")),
        engine=step_engine(*([average] if average else [])),
        averaged=get("evaluated_network"),
    )


def monai(settings: Settings, channels: Sequence[int]) -> Racer:
    """MONAI's VQVAE with 512 codes of length 64, Adam, and its own commitment loss.

    Args:
        settings: how it is trained.
        channels: a width for each halving.
    """
    levels = len(channels)
    network: Any = Float32Quantizing(
        2, 1, 1, channels, num_res_layers=2, num_res_channels=channels,
        downsample_parameters=((2, 4, 1, 1),) * levels,
        upsample_parameters=((2, 4, 1, 1, 0),) * levels,
        num_embeddings=512, embedding_dim=64,
        decay=settings.decay, commitment_cost=settings.commitment,
    )  # fmt: skip
    if settings.bfloat16:
        network = network.to(memory_format=torch.channels_last)
    shipped = train_config().get_parsed_content
    transform = shipped("train#preprocessing") if settings.our_transforms else None
    return Racer(
        network=network,
        optimizer=torch.optim.Adam(network.parameters(), settings.lr, settings.betas, fused=True),
        loss=shipped("loss") if settings.our_loss else VQVAELoss(),
        inferer=MixedPrecisionInferer(amp="auto" if settings.bfloat16 else False),
        batch_size=settings.batch_size,
        rate=SCHEDULES[settings.schedule],
        transform=after_loading(transform) if transform else None,
    )


def train_config() -> ConfigParser:
    """The configuration that ships, on the CPU."""
    parser = ConfigParser()
    parser.read_config(str(bundle_folder("vqvae") / "configs" / "train.json"))
    parser["device"] = "$torch.device('cpu')"
    return parser


def after_loading(preprocessing: Compose) -> Compose | None:
    """What a configuration does to loaded slices, such as random crops; None for nothing."""
    steps = [step for step in preprocessing.transforms if not isinstance(step, LoadSliced)]
    return None if all(isinstance(step, SelectItemsd) for step in steps) else Compose(steps)


def cosine(done: float, warmup: float = 0.02) -> float:
    """A short linear rise, then a cosine to 0 at the budget's end."""
    if done < warmup:
        return done / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (done - warmup) / (1 - warmup))))


SCHEDULES: dict[str, Callable[[float], float]] = {"constant": lambda _: 1.0, "cosine": cosine}


class Float32Quantizing(VQVAE):
    """MONAI's VQVAE, its quantizer in float32 under CPU autocast, where its own guard is not."""

    def quantize(self, encodings: torch.Tensor) -> Output:
        """Quantised encodings (B, D, w, h) and their loss."""
        with torch.autocast(encodings.device.type, enabled=False):
            quantised, loss = super().quantize(encodings.float())
        return quantised, loss


def fingerprint(settings: Settings | None) -> str:
    """A hash of what decides how a racer does: this file, our code and configuration or settings.

    Args:
        settings: MONAI's; None for our network.
    """
    digest = hashlib.sha256(b"" if settings is None else repr(settings).encode())
    digest.update(Path(__file__).read_bytes())
    if settings is None or settings.our_loss or settings.our_transforms:
        package = Path(monai_vqbrain.__file__).parent
        files = [path for pattern in RESTS_ON for path in sorted(package.glob(pattern))]
        for path in [bundle_folder("vqvae") / "configs" / "train.json", *files]:
            digest.update(path.read_bytes())
    return digest.hexdigest()
