"""A DICOM series as one NIfTI volume, made by dcm2niix."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from monai_vqbrain.cohorts import Scan
from monai_vqbrain.errors import UnusableImageError, UsageError
from monai_vqbrain.files import writing

CORRECTED = ("_Eq", "_Tilt")  # what dcm2niix adds beside a series of uneven or tilted slices


def converted_volume(scan: Scan, folder: Path) -> Path:
    """The NIfTI volume of a scan of the form `dicom`, made now unless it is there.

    Args:
        scan: the scan.
        folder: the run's folder of volumes. Beside the volume lies what it was made from.

    Raises:
        UnusableImageError: dcm2niix does not make one volume of the series.
        UsageError: dcm2niix is not installed.
    """
    target = folder / f"{scan.name}_T1w.nii.gz"
    record = folder / f"{scan.name}_T1w.json"
    stats = {path.name: path.stat() for path in scan.files}
    made_from = {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}
    if target.is_file() and record.is_file() and json.loads(record.read_text()) == made_from:
        return target
    with writing(target) as path:
        convert(scan.files, path)
    with writing(record) as path:
        path.write_text(json.dumps(made_from) + "\n")
    return target


def convert(files: Sequence[Path], target: Path) -> None:
    """Write one DICOM series as one .nii.gz; arguments and errors as of `converted`."""
    try:
        import dcm2niix
    except ImportError:
        raise UsageError("DICOM needs dcm2niix: pip install 'monai-vqbrain[dicom]'") from None
    with TemporaryDirectory() as name:
        series, out = Path(name, "series"), Path(name, "out")
        series.mkdir()
        out.mkdir()
        for number, file in enumerate(files):  # of this series alone, whatever lies beside it
            (series / f"{number}.dcm").symlink_to(file.absolute())
        command = ["-b", "n", "-z", "i", "-1", "-f", "volume", "-o", str(out), str(series)]
        done = dcm2niix.main(command, capture_output=True, text=True)
        made = sorted(out.glob("*.nii.gz"))
        for mark in CORRECTED:
            made = [path for path in made if mark in path.name] or made
        if len(made) != 1:
            lines = (done.stderr + done.stdout).strip().splitlines()
            said = next((line for line in lines if "rror" in line or "arning" in line), "no reason")
            raise UnusableImageError(
                f"dcm2niix makes {len(made)} volumes of its {len(files)} files ({said})",
                "convert the series yourself and give the NIfTI",
            )
        target.write_bytes(made[0].read_bytes())
