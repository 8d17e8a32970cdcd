"""MONAI's latent diffusion, scaled to a budget of CPU-seconds on one thread.

The settings are those of the model zoo's bundle `brats_mri_axial_slices_generative_diffusion`, with
what had to change for a budget of minutes: narrower networks, higher and falling learning rates, an
average of the weights, and no adversarial or perceptual loss (the latter needs weights that the
bundle downloads).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
import torch.nn.functional as F
from monai.inferers import LatentDiffusionInferer
from monai.networks.nets import AutoencoderKL, DiffusionModelUNet
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler
from monai.utils import set_determinism
from race import draw
from racers import cosine
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from monai_vqbrain.runs.views import slice_views
from monai_vqbrain.transforms import ViewSliced

NOISE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "schedule": "scaled_linear_beta",
    "beta_start": 0.0015,
    "beta_end": 0.0195,
}
BATCH = 64  # images, where nothing is learnt


@dataclass(frozen=True)
class Settings:
    """How both networks are set up and trained; the defaults did best on validation participants.

    Args:
        autoencoder: channels per level; each level but the first halves the image.
        blocks: residual blocks per level of both networks.
        latent: channels of the latent image.
        share: of the CPU-seconds for the autoencoder.
        autoencoder_lr: of Adam, the highest.
        kl: weight of the Kullback-Leibler divergence.
        crop: pixels along each side of what the autoencoder learns from.
        unet: channels per level of the diffusion network; attention in all levels but the first.
        heads: channels per head of attention.
        groups: of the normalisation in both networks.
        lr: of Adam, the highest, of the diffusion network.
        batch: latent images per step of it, and crops per step of the autoencoder.
        average: momentum of the diffusion network's average weights.
        views: shifted views of each slice to learn from, besides itself.
        steps: of the sampler.
    """

    autoencoder: tuple[int, ...] = (16, 16, 32, 32)
    blocks: int = 1
    latent: int = 4
    share: float = 0.4
    autoencoder_lr: float = 0.001
    kl: float = 1e-6
    crop: int = 64
    unet: tuple[int, ...] = (64, 128)
    heads: int = 32
    groups: int = 8
    lr: float = 0.001
    batch: int = 16
    average: float = 0.99
    views: int = 0
    steps: int = 50


class LatentDiffusion:
    """An autoencoder and a diffusion network on its latent images, untrained until `fit`."""

    def __init__(self, settings: Settings, seed: int) -> None:
        set_determinism(seed)
        levels, depth = settings.autoencoder, settings.unet
        self.settings = settings
        self.autoencoder = AutoencoderKL(
            2, channels=levels, num_res_blocks=[settings.blocks] * len(levels),
            latent_channels=settings.latent,
            attention_levels=[False] * len(levels), norm_num_groups=settings.groups,
            with_encoder_nonlocal_attn=False, with_decoder_nonlocal_attn=False,
        )  # fmt: skip
        self.unet = DiffusionModelUNet(
            2, settings.latent, settings.latent, channels=depth,
            num_res_blocks=[settings.blocks] * len(depth),
            attention_levels=[level > 0 for level in range(len(depth))],
            num_head_channels=[settings.heads] * len(depth), norm_num_groups=settings.groups,
        )  # fmt: skip
        self.scale = 1.0
        self.shape: tuple[int, ...] = ()
        self.network: Any = self.unet  # the one to sample from
        self.done = {"autoencoder": 0, "diffusion": 0}  # steps

    def fit(self, images: torch.Tensor, seconds: float) -> None:
        """Train on slices for this many CPU-seconds; making latent images is not counted.

        Args:
            images: (N, 1, W, H) in [0, 1].
            seconds: of both trainings together.
        """
        self._fit_autoencoder(images, self.settings.share * seconds)
        self.autoencoder.eval()
        latent = self.latents(with_views(images, self.settings.views))
        self.scale = 1 / float(latent.std())
        self.shape = tuple(latent.shape[1:])
        self._fit_diffusion(latent * self.scale, (1 - self.settings.share) * seconds)

    def _fit_autoencoder(self, images: torch.Tensor, seconds: float) -> None:
        settings, side = self.settings, self.settings.crop
        optimizer = torch.optim.Adam(self.autoencoder.parameters(), settings.autoencoder_lr)
        draws = draw(len(images), settings.batch)
        self.autoencoder.train()
        for _ in steps(optimizer, seconds):
            self.done["autoencoder"] += 1
            corners = [int(torch.randint(size - side + 1, ())) for size in images.shape[2:]]
            x, y = (slice(start, start + side) for start in corners)
            batch = images[next(draws)][:, :, x, y]
            found, mean, sigma = self.autoencoder(batch)
            divergence = 0.5 * (mean**2 + sigma**2 - 2 * sigma.log() - 1).flatten(1).sum(1).mean()
            loss = F.l1_loss(found, batch) + settings.kl * divergence
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def _fit_diffusion(self, latent: torch.Tensor, seconds: float) -> None:
        noise = DDPMScheduler(**NOISE, clip_sample=False)
        optimizer = torch.optim.Adam(self.unet.parameters(), self.settings.lr)
        averaged = AveragedModel(
            self.unet, multi_avg_fn=get_ema_multi_avg_fn(self.settings.average)
        )
        draws = draw(len(latent), self.settings.batch)
        self.unet.train()
        for _ in steps(optimizer, seconds):
            self.done["diffusion"] += 1
            loss = denoising(self.unet, noise, latent[next(draws)]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            averaged.update_parameters(self.unet)
        self.network = averaged.module.eval()

    @torch.inference_mode()
    def latents(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, 1, W, H) to the means of their latent images, (N, C, w, h)."""
        parts = [self.autoencoder.encode(part)[0] for part in images.split(BATCH)]
        return torch.cat(parts).clone()

    @torch.inference_mode()
    def reconstruct(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, 1, W, H) as the autoencoder returns them, in [0, 1]."""
        parts = [self.autoencoder.decode(part) for part in self.latents(images).split(BATCH)]
        return torch.cat(parts).clamp(0, 1)

    @torch.inference_mode()
    def sample(self, number: int, seed: int) -> torch.Tensor:
        """New images (N, 1, W, H) in [0, 1], by DDIM."""
        scheduler = DDIMScheduler(**NOISE, clip_sample=False)
        scheduler.set_timesteps(self.settings.steps)
        inferer = LatentDiffusionInferer(scheduler, self.scale)
        noise = torch.randn((number, *self.shape), generator=torch.Generator().manual_seed(seed))
        found: list[Any] = [
            inferer.sample(part, self.autoencoder, self.network, scheduler, verbose=False)
            for part in noise.split(BATCH)
        ]
        return torch.cat(found).clamp(0, 1)

    @torch.inference_mode()
    def scores(self, images: torch.Tensor, seed: int) -> torch.Tensor:
        """What an attack on membership reads: each image's mean denoising error, (N,)."""
        noise = DDPMScheduler(**NOISE, clip_sample=False)
        latent = self.latents(images) * self.scale
        torch.manual_seed(seed)
        times = torch.linspace(50, 950, 10).long()
        errors = [
            denoising(self.network, noise, part, time.expand(len(part)))
            for time in times
            for part in latent.split(BATCH)
        ]
        return torch.cat(errors).view(len(times), -1).mean(0)


def denoising(
    network: nn.Module,
    noise: DDPMScheduler,
    latent: torch.Tensor,
    times: torch.Tensor | None = None,
) -> torch.Tensor:
    """The squared error of the predicted noise, (B,), at random time steps unless given."""
    if times is None:
        times = torch.randint(NOISE["num_train_timesteps"], (len(latent),))
    drawn = torch.randn_like(latent)
    found = network(noise.add_noise(latent, drawn, times), times)
    return (found - drawn).square().flatten(1).mean(1)


def steps(optimizer: torch.optim.Optimizer, seconds: float) -> Iterator[int]:
    """Numbers of steps until the CPU-seconds are spent, the rates following a cosine."""
    rates = [group["lr"] for group in optimizer.param_groups]
    began = time.process_time()
    for step in count():
        spent = (time.process_time() - began) / seconds
        if spent >= 1:
            return
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * max(cosine(spent), 1e-3)
        yield step


def with_views(images: torch.Tensor, number: int) -> torch.Tensor:
    """Images, and this many shifted views of them: (N * (number + 1), 1, W, H)."""
    view: Callable[..., Any] = ViewSliced("image")
    every = slice_views(number)
    moved = [view({"image": image, **about})["image"] for about in every for image in images]
    return torch.cat((images, torch.stack(moved))) if moved else images
