"""Put the networks of a run into the package, as the weights that it carries.

    python benchmarks/packaged_weights.py RUN

RUN is a finished and evaluated run of the README's commands on ds002748. The script writes
`models/` of both bundles, their model cards and the figures in their metadata, and prints what the
wheel carries. Nothing of it is edited by hand afterwards.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from standings import aligned

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.files import writing
from monai_vqbrain.runs.bundles import BUNDLES, bundle_folder
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.packaged import MODELS, PACKAGED
from monai_vqbrain.stages.exporting.card import TrainingData, model_card, read_evaluation
from monai_vqbrain.stages.exporting.metadata import describe_run
from monai_vqbrain.stages.exporting.models import write_json, write_models

MOST = 8_000_000  # bytes, of all weights in the wheel
DATA = TrainingData(
    "48 of the 72 participants of OpenNeuro ds002748 v1.0.5 (Bezmaternykh et al., Neural "
    "Plasticity 2021, doi:10.1155/2021/8846097): patients with mild to moderate depression "
    "(`depr`) and healthy participants (`control`); T1-weighted volumes, skull-stripped, 8 bits.",
    "CC0",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the files and print their sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="a finished and evaluated run")
    run = RunFolder(parser.parse_args(arguments).run)
    metrics = read_evaluation(run)
    card = model_card(run, f"networks trained on {PACKAGED[0]}", DATA, prior=True)
    for name in BUNDLES:
        folder = bundle_folder(name)
        write_models(run, name, folder / MODELS)
        with writing(folder / "docs" / "model-card.md") as path:
            path.write_text(card, encoding="utf-8")
        metadata = json.loads((folder / "configs" / "metadata.json").read_text())
        described = describe_run(metadata, name, run, metrics, DATA)
        write_json(described, folder / "configs" / "metadata.json")
    files = [path for name in BUNDLES for path in (bundle_folder(name) / MODELS).iterdir()]
    rows = [[str(path.relative_to(path.parents[2])), f"{path.stat().st_size:,}"] for path in files]
    print(aligned([["file", "bytes"], *sorted(rows)]))
    total = sum(path.stat().st_size for path in files)
    print(f"{total:,} bytes in all, of {MOST:,}")
    if total > MOST:
        raise VQBrainError(f"the weights have {total:,} bytes: the wheel carries {MOST:,} at most")


if __name__ == "__main__":
    try:
        main()
    except VQBrainError as error:
        raise SystemExit(str(error)) from None
