"""`vqbrain config`: list the shipped configurations, and copy one to edit it."""

from __future__ import annotations

import logging
from pathlib import Path

from monai_vqbrain.errors import UsageError
from monai_vqbrain.files import writing
from monai_vqbrain.runs.bundles import BUNDLES, bundle_folder

logger = logging.getLogger(__name__)


def list_configs() -> list[str]:
    """The shipped configurations by name, such as `vqvae/train`."""
    return [
        f"{name}/{path.stem}"
        for name in BUNDLES
        for path in sorted((bundle_folder(name) / "configs").glob("*.json"))
        if path.stem != "metadata"
    ]


def copy_config(name: str, out: Path | str | None = None) -> Path:
    """Copy a shipped configuration, to edit it and run it with MONAI.

    A configuration is code: MONAI runs what it names.

    Args:
        name: of `list_configs`.
        out: the new file, which must not exist; by default `vqvae-train.json` and the like in the
            current folder.

    Returns:
        The new file.

    Raises:
        UsageError: for another name, or if the file exists.
    """
    if name not in list_configs():
        raise UsageError(f"configuration {name}: there are {', '.join(list_configs())}")
    bundle, config = name.split("/")
    out = Path(f"{bundle}-{config}.json" if out is None else out)
    if out.exists():
        raise UsageError(f"{out} exists: give another name, or delete it first")
    text = (bundle_folder(bundle) / "configs" / f"{config}.json").read_text(encoding="utf-8")
    with writing(out) as path:
        path.write_text(text, encoding="utf-8")
    logger.info("copied: %s", out)
    return out
