"""Conversion of a DICOM series to one NIfTI volume by dcm2niix."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from monai_vqbrain.cohorts import Scan
from monai_vqbrain.cohorts.dicom import INCOMPLETE
from monai_vqbrain.cohorts.dicom_series import is_mr_image, missing_slices, read_heads
from monai_vqbrain.contents import content_sha256
from monai_vqbrain.documents import read_json
from monai_vqbrain.errors import REDOWNLOAD, UnusableImageError, UsageError, VQBrainError
from monai_vqbrain.files import writing
from monai_vqbrain.runs.slicing_code import CONVERSION, slicing_code
from monai_vqbrain.transforms.input_image import unreadable
from monai_vqbrain.transforms.voxels import MAX_VOXELS

SIZE_TAGS = ("Rows", "Columns", "NumberOfFrames")
CORRECTED = ("_Eq", "_Tilt")  # what dcm2niix adds for a series of uneven or tilted slices


def converted_volume(scan: Scan, folder: Path) -> Path:
    """The NIfTI volume of a scan of the form `dicom`, converted unless it is up to date.

    Args:
        scan: the scan.
        folder: the run's folder of volumes; a JSON record of the input files, of the code that
            converted them and of the volume lies beside each.

    Returns:
        The volume's path.

    Raises:
        UnusableImageError: slices are missing, or dcm2niix does not convert the series to exactly
            one volume.
        UnavailableImageError: a file of the series is missing.
        UsageError: dcm2niix is not installed.
    """
    target = _target(scan, folder)
    record = _record(scan, folder)
    try:
        stats = {path.name: path.stat() for path in scan.files}
    except OSError as error:
        raise unreadable(error, "is not there") from error
    files = {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}
    made_from = {"files": files, **slicing_code(CONVERSION)}
    if target.is_file() and _recorded(record) == made_from | {"volume": content_sha256(target)}:
        return target
    with writing(target) as path:
        convert(scan.files, path)
    with writing(record) as path:
        path.write_text(json.dumps(made_from | {"volume": content_sha256(target)}) + "\n")
    return target


def conversion_files(scan: Scan, folder: Path) -> list[Path]:
    """The files that `converted_volume` leaves for a scan; none for another form than `dicom`."""
    return [_target(scan, folder), _record(scan, folder)] if scan.form == "dicom" else []


def forget_conversion(scan: Scan, folder: Path) -> None:
    """Have a scan converted again, should there be a volume of it."""
    _record(scan, folder).unlink(missing_ok=True)


def _target(scan: Scan, folder: Path) -> Path:
    return folder / f"{scan.name}_T1w.nii.gz"


def _record(scan: Scan, folder: Path) -> Path:
    return folder / f"{scan.name}_T1w.json"


def _recorded(path: Path) -> Any:
    """What a record holds; None if it is missing or damaged."""
    try:
        return read_json(path, object)
    except (FileNotFoundError, VQBrainError):
        return None


def convert(files: Sequence[Path], target: Path) -> None:
    """Write one DICOM series as one .nii.gz; errors as of `converted_volume`.

    Args:
        files: the files of the series.
        target: the file to write.
    """
    try:
        import dcm2niix
    except ImportError:
        raise UsageError("DICOM needs dcm2niix: pip install 'monai-vqbrain[dicom]'") from None
    missing = missing_slices([head for head in read_heads(files).values() if is_mr_image(head)])
    if missing:
        raise UnusableImageError(
            f"{missing} of {len(files) + missing} {INCOMPLETE}", "get all files of the series"
        )
    _check_size(files)
    with TemporaryDirectory() as name:
        series, out = Path(name, "series"), Path(name, "out")
        series.mkdir()
        out.mkdir()
        for number, file in enumerate(files):  # of this series only, whatever else is in its folder
            (series / f"{number}.dcm").symlink_to(file.absolute())
        command = ["-b", "n", "-z", "i", "-1", "-f", "volume", "-o", str(out), str(series)]
        done = dcm2niix.main(command, capture_output=True, text=True)
        made = sorted(out.glob("*.nii.gz"))
        for mark in CORRECTED:
            made = [path for path in made if mark in path.name] or made
        if len(made) != 1:
            lines = (done.stderr + done.stdout).strip().splitlines()
            reason = next((x for x in lines if "rror" in x or "arning" in x), "no reason given")
            raise UnusableImageError(
                f"dcm2niix made {len(made)} volumes from {len(files)} files ({reason})",
                "convert the series yourself and give the NIfTI",
            )
        target.write_bytes(made[0].read_bytes())


def _check_size(files: Sequence[Path]) -> None:
    """Refuse a series whose headers describe more voxels than a head has: it may be compressed."""
    try:
        import pydicom
    except ImportError:
        return  # the series was found in another way, so that dcm2niix is the only reader
    voxels = 0
    for file in files:
        try:
            head = pydicom.dcmread(
                file, stop_before_pixels=True, force=True, specific_tags=list(SIZE_TAGS)
            )
            sides = [int(head.get(tag) or 1) for tag in SIZE_TAGS]
        except Exception as error:  # its type depends on which byte is wrong
            raise UnusableImageError(f"{file.name} is damaged ({error})", REDOWNLOAD) from error
        voxels += math.prod(sides)
    if voxels > MAX_VOXELS:
        raise UnusableImageError(
            f"its headers describe {voxels} voxels, more than {MAX_VOXELS}", REDOWNLOAD
        )
