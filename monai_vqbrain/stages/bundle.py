"""`vqbrain bundle`: list the bundles, export a run as one, and verify one."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from monai_vqbrain.errors import UsageError, VQBrainError
from monai_vqbrain.files import writing
from monai_vqbrain.runs.bundles import BUNDLES, bundle_folder
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.packaged import MODELS
from monai_vqbrain.stages.exporting.card import TrainingData
from monai_vqbrain.stages.exporting.contents import write_bundle
from monai_vqbrain.stages.exporting.verification import check_bundle

logger = logging.getLogger(__name__)
NO_DATE = (1980, 1, 1, 0, 0, 0)  # of the files in a zip: the same bundle is the same file


class Bundle(NamedTuple):
    """A shipped bundle: its name, version, what it is, and whether it has weights."""

    name: str
    version: str
    task: str
    has_weights: bool


def list_bundles() -> list[Bundle]:
    """The shipped bundles."""
    found = []
    for name in BUNDLES:
        folder = bundle_folder(name)
        metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
        has_weights = (folder / MODELS / "model.pt").is_file()
        found.append(Bundle(name, metadata["version"], metadata["task"], has_weights))
    return found


def export_bundle(
    name: str,
    out: Path | str,
    run: Path | str,
    *,
    description: str | None = None,
    licence: str | None = None,
) -> Path:
    """Export a network of a run as a bundle of MONAI's model zoo, in one zip file.

    It holds the weights, the network as TorchScript, the configurations, metadata with the run's
    figures, a model card and the licence of the code, but no images and no participant ids. That of
    the prior also holds the VQ-VAE, which decodes its samples.

    Args:
        name: "vqvae" or "pixelcnn".
        out: the zip file; it must not exist.
        run: the run folder, evaluated.
        description: sentences on the training data, for metadata and model card.
        licence: of the training data.

    Returns:
        `out`.

    Raises:
        UsageError: for another name, if `out` exists, or the run has not been evaluated.
        VQBrainError: if a stage of the run is not as its command made it.
    """
    out = Path(out)
    if name not in BUNDLES:
        raise UsageError(f"bundle {name}: there are {' and '.join(BUNDLES)}")
    if out.suffix != ".zip":
        raise UsageError(f"{out}: a bundle is exported as a zip file: give a name with .zip")
    if out.exists():
        raise UsageError(f"{out} exists: give another name, or delete it first")
    given = {"description": description, "licence": licence}
    data = TrainingData(**{key: value for key, value in given.items() if value is not None})
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / f"vqbrain_{name}"
        write_bundle(RunFolder(run), name, folder, data)
        check_bundle(folder)
        with writing(out) as path:
            _pack(folder, path)
    logger.info("exported: %s", out)
    return out


def verify_bundle(bundle: Path | str, schema: Path | str | None = None) -> list[str]:
    """Verify a bundle by the checks of MONAI's model zoo.

    They are: the files are there, the metadata have all entries, the network takes and gives the
    shapes that the metadata say, the weights fit it, and no property of a configuration is missing.

    Args:
        bundle: "vqvae" or "pixelcnn", a folder, or a zip file.
        schema: the zoo's schema of metadata, a JSON file; without it only the names of the entries
            are checked.

    Returns:
        What was checked, one line each.

    Raises:
        UsageError: if there is no such bundle.
        VQBrainError: if a check fails.
    """
    with _unpacked(bundle) as folder:
        return check_bundle(folder, None if schema is None else Path(schema))


@contextmanager
def _unpacked(bundle: Path | str) -> Iterator[Path]:
    """The folder of a bundle."""
    path = bundle_folder(str(bundle)) if bundle in BUNDLES else Path(bundle)
    if path.is_dir():
        yield path
        return
    if not path.is_file():
        raise UsageError(
            f"bundle {bundle}: there is no such file or folder; give {' or '.join(BUNDLES)}, a "
            "folder or a zip file"
        )
    with tempfile.TemporaryDirectory() as work:
        try:
            shutil.unpack_archive(path, work, "zip")
        except (shutil.ReadError, zipfile.BadZipFile) as error:
            raise VQBrainError(f"{path} is no zip file, or a damaged one ({error})") from error
        folders = [entry for entry in Path(work).iterdir() if entry.is_dir()]
        if len(folders) != 1:
            raise VQBrainError(f"{path} must hold one folder, and has {len(folders)}")
        yield folders[0]


def _pack(folder: Path, path: Path) -> None:
    """Write a folder as a zip file; weights hardly get smaller, and are stored as they are."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(entry for entry in folder.rglob("*") if entry.is_file()):
            name = zipfile.ZipInfo(file.relative_to(folder.parent).as_posix(), NO_DATE)
            name.external_attr = 0o644 << 16
            archive.writestr(name, file.read_bytes())
