"""A small run folder made of arrays: every stage's files in their formats, no network."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from monai_vqbrain.files import sha256
from monai_vqbrain.provenance import Described, describe, write_provenance
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.freshness import training_inputs

SIZE, FACTOR, K, SLICES = 32, 4, 16, 4
SPLIT = ["training"] * 6 + ["validation"] * 2 + ["test"] * 3


def make_run(
    path: Path, *, prior: bool = True, samples: bool = True, simulated: bool = True
) -> RunFolder:
    """A run of 11 participants `sub-secret01` ..., four slices each, the first in two sessions."""
    run = RunFolder(path)
    slices, images = make_slices(run, simulated)
    source = training_inputs(run.path, "vqvae")
    make_training(run.vqvae, {"ssim_brain": 0.7, "codes_used": 12.0}, source)
    make_codes(run, slices, images)
    if prior:
        codes = training_inputs(run.path, "prior")
        make_training(run.prior, {"bits_per_code": 2.5}, codes)
    if prior and samples:
        make_samples(run, images)
    return run


def make_slices(run: RunFolder, simulated: bool) -> tuple[pd.DataFrame, np.ndarray]:
    """2-slices with its stacks; gives slices.tsv and (N, W, H) uint8 in its order."""
    rng = np.random.default_rng(0)
    (run.slices / "stacks").mkdir(parents=True)
    rows: list[dict[str, object]] = []
    images = []
    for person, split in enumerate(SPLIT):
        for session in ["ses-1", "ses-2"] if person == 0 else ["n/a"]:
            stack, mask = draw_brains(rng)
            name = f"sub-secret{person + 1:02d}" + ("" if session == "n/a" else f"_{session}")
            save_stack(run.slices / f"stacks/{name}_axial_T1w.nii", stack, slope=1 / 255)
            save_stack(run.slices / f"stacks/{name}_axial_desc-brain_mask.nii", mask)
            images += list(stack.transpose(2, 0, 1))
            rows += [
                {
                    "participant_id": f"sub-secret{person + 1:02d}",
                    "session_id": session,
                    "axis": "axial",
                    "index": index,
                    "position_mm": 30 + 3.6 * index,
                    "position_rel": 0.5 + 0.1 * index,
                    "brain_fraction": mask[..., index].mean(),
                    "split": split,
                    "diagnosis": ["CN", "AD", "n/a"][person % 3],
                    "age": "n/a" if person == 4 else 60.5 + person,
                    "sex": "FM"[person % 2],
                    "mask_source": "zero-background",
                    "source": "secret.nii.gz",
                    "stack": f"stacks/{name}_axial_T1w.nii",
                }
                for index in range(SLICES)
            ]
    table = pd.DataFrame(rows)
    table.to_csv(run.slices / "slices.tsv", sep="\t", index=False)
    problems = "path\tproblem\tadvice\nsub-99.nii\tempty\tremove it\n"
    (run.slices / "problems.tsv").write_text(problems)
    options = {
        "axis": "axial",
        "size": [SIZE, SIZE],
        "spacing": 1.8,
        "align": "none",
        "space": "",
        "seed": 0,
    }
    finish(run.slices, options | {"percentile": 99.5, "bias": False}, simulated=simulated)
    return table, np.stack(images)


def draw_brains(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A stack of ellipses with a bright rim: (W, H, S) uint8, and its mask; one slice is empty."""
    x, y = np.meshgrid(*[np.linspace(-1, 1, SIZE)] * 2, indexing="ij")
    width, height = rng.uniform(0.55, 0.75), rng.uniform(0.75, 0.95)
    stack = np.zeros((SIZE, SIZE, SLICES))
    for index in range(SLICES - 1):
        radius = np.hypot(x / width, y / height) / (1 - 0.1 * index)
        noise = rng.normal(0, 0.02, x.shape)
        tissue = 0.35 + 0.4 * radius**2 + 0.08 * np.sin(9 * x + index) + noise
        stack[..., index] = np.where(radius < 1, np.where(np.hypot(x, y) < 0.2, 0.15, tissue), 0)
    mask = (stack > 0).astype(np.uint8)
    return (stack.clip(0, 1) * 255).round().astype(np.uint8), mask


def save_stack(path: Path, values: np.ndarray, slope: float = 1.0) -> None:
    image = nib.Nifti1Image(values, np.diag([1.8, 1.8, 3.6, 1.0]))
    image.header.set_slope_inter(slope, 0)
    nib.save(image, path)


def make_codes(run: RunFolder, table: pd.DataFrame, images: np.ndarray) -> None:
    """4-codes whose code is the cell's mean intensity in K steps; `decode` is its inverse."""
    run.codes.mkdir()
    vqvae = sha256(run.vqvae / "model.pt")
    side = SIZE // FACTOR
    means = images.reshape(-1, side, FACTOR, side, FACTOR).mean(axis=(2, 4))
    codes = (means * K // 256).astype(np.uint16)[:, None]
    header = {
        "num_codes": str(K),
        "quantizer": "vq",
        "grid": f"{side}x{side}",
        "vqvae_sha256": vqvae,
    }
    save_file({"codes": codes}, run.codes / "codes.safetensors", metadata=header)
    table.to_csv(run.codes / "codes.tsv", sep="\t", index=False)
    finish(run.codes, {})


def decode(codes: np.ndarray) -> np.ndarray:
    """(B, 1, w, h) codes to (B, W, H) images in [0, 1]."""
    return np.kron((codes[:, 0] + 0.5) / K, np.ones((1, FACTOR, FACTOR)))


def make_training(
    folder: Path, metrics: dict[str, float], made_from: Described | None = None
) -> None:
    """A training's folder: metrics.tsv and a stand-in for model.pt."""
    folder.mkdir()
    epochs = np.arange(1, 6)
    history = {"epoch": epochs, "seconds": 40.0 * epochs, "loss": 0.1 / epochs}
    history |= {name: top * (1 - 0.5 / epochs) for name, top in metrics.items()}
    pd.DataFrame(history).to_csv(folder / "metrics.tsv", sep="\t", index=False)
    (folder / "model.pt").write_bytes(b"weights")
    write_provenance(folder, made_from or {}, {"seed": 0}, seconds=200.0, device="cpu")


def make_samples(run: RunFolder, images: np.ndarray) -> None:
    """6-samples/default: five slices, blurred by nothing but their format."""
    folder = run.sample_set("default")
    folder.mkdir(parents=True)
    for number, image in enumerate(images[:15:3], start=1):
        sample = nib.Nifti1Image((image / 255).astype(np.float32)[..., None], np.eye(4))
        nib.save(sample, folder / f"sample-{number:04d}.nii.gz")
    (folder / "samples.tsv").write_text("sample\tseed\nsample-0001\t0\n")
    models = {"3-vqvae": run.vqvae / "model.pt", "5-prior": run.prior / "model.pt"}
    write_provenance(folder, describe(models), {"seed": 0}, seconds=4.2)


def make_scores(run: RunFolder, work: Path) -> None:
    """What the bundles' evaluations leave in `work`: fidelity.tsv, bits.tsv, panel.png."""
    from monai_vqbrain.runs.tables import read_slices_table

    work.mkdir(exist_ok=True)
    rows = read_slices_table(run)
    test = rows[rows["split"] == "test"][["participant_id", "session_id", "axis", "index"]]
    rng = np.random.default_rng(1)
    scores = test.assign(
        ssim_brain=rng.uniform(0.8, 0.9, len(test)),
        ssim_whole=rng.uniform(0.9, 0.95, len(test)),
        psnr_brain=rng.uniform(27, 30, len(test)),
    )
    scores.to_csv(work / "fidelity.tsv", sep="\t", index=False, na_rep="n/a")
    bits = test.assign(bits=rng.uniform(60, 70, len(test)))
    bits.to_csv(work / "bits.tsv", sep="\t", index=False, na_rep="n/a")


def finish(folder: Path, options: dict[str, object], **more: object) -> None:
    write_provenance(folder, {}, options, seconds=75.3, **more)


def finish_again(folder: Path, **changes: object) -> None:
    """Record a finished stage whose files or record a test has changed, as if it had made them."""
    record = json.loads((folder / "provenance.json").read_text()) | changes
    kept = {
        name: value
        for name, value in record.items()
        if name not in ("seal", "files", "versions", "finished", "machine")
    }
    write_provenance(folder, **kept)
