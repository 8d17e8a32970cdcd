"""`vqbrain report`: what a run did and reached, as one HTML file that opens offline."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from monai_vqbrain.errors import UsageError, VQBrainError
from monai_vqbrain.files import writing
from monai_vqbrain.metrics import code_counts
from monai_vqbrain.provenance import read_provenance
from monai_vqbrain.stages import figures, methods
from monai_vqbrain.stages.run import RunFolder
from monai_vqbrain.stages.tables import (
    read_codes,
    read_slices,
    read_slices_table,
    read_table,
    where,
)

LARGEST = 5 * 1024 * 1024  # bytes
TEMPLATE = "report.html.j2"


def report(run: Path, show_ids: bool = False) -> Path:
    """Render the report of an evaluated run again.

    Args:
        run: the run folder.
        show_ids: show participant ids; otherwise people are P01, P02 ..., the key in 7-report/key.tsv.

    Returns:
        The HTML file.

    Raises:
        UsageError: if the run was not evaluated yet.
    """
    folder = RunFolder(run)
    if not (folder.report / "metrics.json").is_file():
        raise UsageError(f"7-report is not in {run}: first run: vqbrain evaluate {run}")
    return render(folder, folder.report, show_ids)


def render(run: RunFolder, work: Path, show_ids: bool = False) -> Path:
    """Write report.html and key.tsv into `work`, from metrics.json there and the run's stages.

    Raises:
        VQBrainError: if the file would be larger than 5 MB.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("monai_vqbrain.stages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"interval": _interval, "duration": _duration}
    labels = person_labels(run)
    shown = {p: p for p in labels} if show_ids else labels
    html = environment.get_template(TEMPLATE).render(_context(run, work, shown))
    if len(html.encode()) > LARGEST:
        raise VQBrainError(
            f"the report would have {len(html) / 2**20:.1f} MB, more than 5: please report this"
        )
    key = pd.DataFrame({"label": labels.values(), "participant_id": labels.keys()})
    with writing(work / "key.tsv") as path:
        key.to_csv(path, sep="\t", index=False)
    with writing(work / "report.html") as path:
        path.write_text(html, encoding="utf-8")
    return work / "report.html"


def person_labels(run: RunFolder) -> dict[str, str]:
    """participant -> P01, P02 ..., in the order of the ids."""
    people = sorted(read_slices_table(run)["participant_id"].unique())
    digits = max(2, len(str(len(people))))
    return {p: f"P{i:0{digits}d}" for i, p in enumerate(people, start=1)}


def _context(run: RunFolder, work: Path, labels: Mapping[str, str]) -> dict[str, Any]:
    """All that the template shows."""
    rows = read_slices_table(run)
    metrics = json.loads((work / "metrics.json").read_text())
    slices = read_provenance(run.slices) or {}
    options = slices.get("options", {})
    return {
        "metrics": metrics,
        "findings": findings(metrics),
        "stages": _stages(run, work, labels),
        "versions": _versions(run),
        "split": methods.split_rows(rows),
        "why_split": methods.why_this_split(options),
        "normalised": methods.how_normalised(rows, options, _pixel(run, rows)),
        "problems": _length(run.slices / "problems.tsv"),
        "figures": _figures(run, work, rows, metrics, labels),
        "samples": len(list(run.samples.glob("sample-*.nii.gz"))),
        "labels_hidden": any(k != v for k, v in labels.items()),
    }


def findings(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Plain answers to the questions that a careful reader asks first.

    Args:
        metrics: metrics.json.

    Returns:
        Dictionaries with `good` (bool) and `text`.
    """
    found = []
    fidelity, prior = metrics["fidelity"], metrics.get("prior")
    if "test" in fidelity and "trivial" in fidelity:
        ours = fidelity["test"]["ssim_brain"]["mean"]
        bar, name = max((v["ssim_brain"]["mean"], k) for k, v in fidelity["trivial"].items())
        verb = "above" if ours > bar else "not above"
        name = figures.LABELS[name]
        text = f"Reconstructions are {verb} the best trivial predictor, {name}"
        found.append({"good": ours > bar, "text": f"{text}: {ours:.3f} against {bar:.3f}."})
    if "codebook" in metrics:
        used, size = metrics["codebook"]["used"], metrics["codebook"]["num_codes"]
        text = f"{used} of {size} codes occur in the test slices."
        found.append({"good": used > size / 4, "text": text})
    if prior:
        ours, bar = prior["bits_per_code"], prior["unigram_bits_per_code"]
        verb = "fewer" if ours < bar else "no fewer"
        text = f"The prior needs {verb} bits a code than each position's own histogram"
        found.append({"good": ours < bar, "text": f"{text}: {ours:.2f} against {bar:.2f}."})
    found.append({"good": True, "text": "Nobody is in two splits."})  # evaluate raises otherwise
    return found


def _figures(
    run: RunFolder,
    work: Path,
    rows: pd.DataFrame,
    metrics: Mapping[str, Any],
    labels: Mapping[str, str],
) -> dict[str, str]:
    """name -> data URI; figures of what the run does not have are left out."""
    found: dict[str, bytes] = {"montage": figures.montage(_some_slices(run, rows))}
    for name in ("panel", "nearest"):
        if (work / f"{name}.png").is_file():
            found[name] = (work / f"{name}.png").read_bytes()
    found |= _curves(run) | _fidelity_figures(work, metrics, labels)
    if "codebook" in metrics:
        found |= _code_figures(run)
    samples = sorted(run.samples.glob("sample-*.nii.gz"))[:16]
    if samples:
        found["samples"] = figures.montage(np.stack([_sample(path) for path in samples]))
    return {k: "data:image/png;base64," + b64encode(v).decode() for k, v in found.items()}


def _curves(run: RunFolder) -> dict[str, bytes]:
    """The curves of both trainings."""
    wanted = (
        ("vqvae", run.vqvae, ("loss", "ssim_brain", "codes_used"), "ssim_brain"),
        ("prior", run.prior, ("loss", "bits_per_code"), None),
    )
    return {
        f"curves_{name}": figures.curves(read_table(folder / "metrics.tsv"), columns, best)
        for name, folder, columns, best in wanted
        if (folder / "metrics.tsv").is_file()
    }


def _fidelity_figures(
    work: Path, metrics: Mapping[str, Any], labels: Mapping[str, str]
) -> dict[str, bytes]:
    fidelity = metrics["fidelity"]
    if "test" not in fidelity or "trivial" not in fidelity:
        return {}
    values = {"this VQ-VAE": fidelity["test"]["ssim_brain"]}
    values |= {name: score["ssim_brain"] for name, score in fidelity["trivial"].items()}
    scores = read_table(work / "fidelity.tsv")
    pooling = values["pooling"]["mean"]
    return {
        "bars": figures.bars(values, "SSIM inside the brain, mean and 95 % interval over people"),
        "people": figures.by_participant(scores, labels, pooling),
    }


def _code_figures(run: RunFolder) -> dict[str, bytes]:
    codes, rows, num_codes = read_codes(run)
    test = where(rows, "test")
    if not test.any():
        return {}
    grids, images = codes[test][:, 0], read_slices(run, rows[test])[0]
    ranks = figures.code_brightness(images, grids, num_codes)
    chosen = _spread(len(grids), 6)
    return {
        "code_maps": figures.code_maps(images[chosen], grids[chosen], ranks),
        "code_use": figures.code_use(code_counts(codes[test], num_codes)),
    }


def _some_slices(run: RunFolder, rows: pd.DataFrame) -> np.ndarray:
    """At most 24 training slices, spread over people and positions."""
    training = rows[where(rows, "training")]
    chosen = training if len(training) else rows
    return read_slices(run, chosen.iloc[_spread(len(chosen), 24)])[0]


def _spread(count: int, wanted: int) -> np.ndarray:
    """At most `wanted` indices below `count`, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(int))


def _sample(path: Path) -> np.ndarray:
    import nibabel

    image = nibabel.load(path).get_fdata()[..., 0]  # type: ignore[attr-defined]
    return np.asarray((image.clip(0, 1) * 255).round().astype(np.uint8))


def _stages(run: RunFolder, work: Path, labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """Stage by stage: when, how long, on what, by which command."""
    folders = [run.volumes, run.slices, run.vqvae, run.codes, run.prior, run.samples]
    hide = _hider(labels)
    records = [(f.name, read_provenance(f)) for f in folders] + [("7-report", read_provenance(work))]
    return [
        {
            "name": name,
            "finished": record["finished"].replace("T", " ")[:16],
            "seconds": record["seconds"],
            "machine": ", ".join(filter(None, (record.get("device"), record["machine"]))),
            "command": hide(record["command"]),
            "seed": record["options"].get("seed"),
        }
        for name, record in records
        if record
    ]


def _hider(labels: Mapping[str, str]) -> Callable[[str], str]:
    """A function that puts labels in the place of participant ids."""
    ids = sorted(labels, key=len, reverse=True)
    pattern = re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(map(re.escape, ids))})(?![A-Za-z0-9])")
    return lambda text: pattern.sub(lambda match: labels[match[0]], text)


def _versions(run: RunFolder) -> dict[str, str]:
    """package -> version, or versions where the stages differ."""
    found: dict[str, list[str]] = {}
    for folder in (run.slices, run.vqvae, run.codes, run.prior, run.samples):
        for name, version in (read_provenance(folder) or {}).get("versions", {}).items():
            found.setdefault(name, [])
            found[name] += [version] if version not in found[name] else []
    return {name: ", ".join(versions) for name, versions in found.items()}


def _pixel(run: RunFolder, rows: pd.DataFrame) -> float | None:
    """In-plane spacing in mm, read from the first stack; None where pixels are not square."""
    import nibabel

    first, second = nibabel.load(run.slices / rows["stack"].iloc[0]).header.get_zooms()[:2]  # type: ignore[attr-defined]
    return float(first) if np.isclose(first, second) else None


def _length(table: Path) -> int:
    return max(0, len(table.read_text().splitlines()) - 1) if table.is_file() else 0


def _interval(value: Mapping[str, Any], digits: int = 3) -> str:
    """`0.879 (0.861 to 0.897)`."""
    if value["mean"] is None:
        return "–"
    if value["low"] is None:
        return f"{value['mean']:.{digits}f}"
    return f"{value['mean']:.{digits}f} ({value['low']:.{digits}f} to {value['high']:.{digits}f})"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
