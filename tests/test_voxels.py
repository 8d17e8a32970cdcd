"""Files that inflate, or claim, far more than they hold are refused in little memory."""

from __future__ import annotations

import bz2
import gzip
import importlib
import os
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from monai_vqbrain.cohorts import Scan
from monai_vqbrain.cohorts.dicom import read_dicom
from monai_vqbrain.cohorts.table_file import read_table as read_any_table
from monai_vqbrain.errors import UnusableImageError, VQBrainError
from monai_vqbrain.runs.sample_sets import read_sample
from monai_vqbrain.stages.slicing.dicom import convert
from monai_vqbrain.stages.slicing.pictures import pictures_to_slices
from monai_vqbrain.stages.slicing.volume import open_volume, read_volume
from monai_vqbrain.tables import read_table
from monai_vqbrain.transforms import voxels
from monai_vqbrain.transforms.input_slice import read_picture
from monai_vqbrain.transforms.voxels import open_image, read_scaled, read_stored
from monai_vqbrain.weights import read_weights

SIDE = 16
MUCH = 2**28  # bytes
LITTLE = 2**26


@pytest.fixture(params=["zlib", "isal.isal_zlib"])
def inflater(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What inflates volumes: Python's own, and the extra `fast`."""
    monkeypatch.setattr(voxels, "zlib", importlib.import_module(request.param))


@contextmanager
def little_memory() -> Iterator[None]:
    """A block that may allocate a quarter of what its files inflate to, or claim."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < LITTLE
    finally:
        tracemalloc.stop()


def nifti(side: int = SIDE, offset: float = 352) -> bytes:
    """The header of a cube of bytes."""
    header = nib.Nifti1Header()
    header.set_data_shape((side,) * 3)
    header.set_data_dtype(np.uint8)
    header.set_sform(np.eye(4), 1)
    header["magic"], header["vox_offset"] = b"n+1", offset
    return bytes(header.binaryblock) + bytes(4)


def extension() -> bytes:
    """A header with an extension that fills 256 MB before the voxels."""
    header = nifti(offset=352 + MUCH)[:348] + b"\1\0\0\0"
    return header + np.array([MUCH, 6], "<i4").tobytes() + bytes(MUCH)


BOMBS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "more than the header": (".gz", lambda: nifti() + bytes(MUCH), "holds more than its header"),
    "less than the header": (".gz", lambda: nifti(700) + bytes(9), "Expected 343000000 bytes of"),
    "less than the header, bz2": (".bz2", lambda: nifti(700) + bytes(9), "expected 343000352 byt"),
    "less than the header, plain": ("", lambda: nifti(700) + bytes(9), "Expected 343000000 bytes"),
    "a huge header": (".gz", lambda: nifti(32767) + bytes(9), "describes 35181150961663 voxels"),
    "a huge extension": (".gz", extension, r"voxels begin at byte 2\.68"),
    "voxels nowhere": ("", lambda: nifti(offset=float("inf")), "voxels begin at byte inf"),
    "voxels before the file": ("", lambda: nifti(offset=-8), "voxels begin at byte -8"),
    "voxels in the header": ("", lambda: nifti(offset=0) + bytes(SIDE**3), "begin at byte 0"),
    "no end": (".gz", lambda: nifti() + bytes(SIDE**3), "end of its compressed data is missing"),
}
PACKED = {".gz": lambda raw: gzip.compress(raw, 1), ".bz2": bz2.compress, "": bytes}


@pytest.mark.usefixtures("inflater")
@pytest.mark.parametrize("case", BOMBS)
def test_a_volume_is_read_no_further_than_its_header(case: str, tmp_path: Path) -> None:
    ending, content, words = BOMBS[case]
    path = tmp_path / f"volume.nii{ending}"
    packed = PACKED[ending](content())
    path.write_bytes(packed[:-8] if case == "no end" else packed)
    with little_memory(), pytest.raises(UnusableImageError, match=words):
        read_volume(path)
    with pytest.raises(VQBrainError, match="is damaged .*: sample this set again"):
        read_sample(path)


@pytest.mark.usefixtures("inflater")
@pytest.mark.parametrize("ending", ["nii", "nii.gz", "nii.bz2", "mgz", "mgh", "img.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, ">i2", np.float32])
def test_voxels_are_those_of_nibabel(ending: str, dtype: Any, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 200, (5, 4, 3)).astype(dtype)
    kind = nib.MGHImage if ending.startswith("mg") else nib.Nifti1Image
    kind = nib.Nifti1Pair if ending.startswith("img") else kind
    nib.save(
        kind(values.astype(values.dtype.newbyteorder("=")), np.eye(4)), tmp_path / f"x.{ending}"
    )
    image = open_image(tmp_path / f"x.{ending}")
    np.testing.assert_array_equal(read_stored(image), values)
    np.testing.assert_array_equal(read_scaled(image), np.asarray(image.dataobj))


@pytest.mark.usefixtures("inflater")
def test_several_gzip_members_and_scaling_are_read(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.arange(60, dtype=np.uint8).reshape(5, 4, 3), np.eye(4))
    image.header.set_slope_inter(0.5, 3)
    raw = image.to_bytes()
    path = tmp_path / "x.nii.gz"
    path.write_bytes(gzip.compress(raw[:370]) + gzip.compress(raw[370:]))
    expected = nib.load(path).get_fdata()
    np.testing.assert_array_equal(read_scaled(open_image(path)), expected)


def test_a_header_that_begins_nowhere_is_a_line_of_check(tmp_path: Path) -> None:
    path = tmp_path / "x.nii"
    path.write_bytes(nifti(offset=float("inf")))
    with pytest.raises(UnusableImageError, match="cannot be opened .*begin at byte inf"):
        open_volume(path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "sub-01_T1w.nii")
    with pytest.raises(ValueError, match="^it is a folder, pipe, socket or device, not a file$"):
        open_image(tmp_path / "sub-01_T1w.nii")


def test_a_picture_of_very_many_pixels_is_not_decoded(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.new("1", (9000, 9000)).save(path)
    with little_memory(), pytest.raises(UnusableImageError, match="has 9000 x 9000 pixels"):
        read_picture(path)
    scan = Scan(participant_id="a", path=tmp_path, form="pictures", files=(path,))
    with pytest.raises(UnusableImageError, match="none of its pictures can be read"):
        pictures_to_slices(scan, (32, 32), 1.0)


def test_a_table_of_very_many_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "participants.tsv"
    path.write_text("participant_id" + "\t" * 2_000_000 + "\nsub-1\n")
    with little_memory():
        table, problems = read_any_table(path)
        with pytest.raises(VQBrainError, match="a line has 2000001 cells, more than 10000"):
            read_table(path)
    assert table.empty
    assert "a line has 2000001 cells" in problems[0].problem


def test_a_table_larger_than_a_gigabyte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "participants.tsv"
    with path.open("wb") as file:
        file.truncate(2**30 + 1)  # sparse
    with pytest.raises(VQBrainError, match="it has 1073741825 bytes, more than 1073741824"):
        read_table(path)


def test_compressed_weights_are_refused(tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain.pt", tmp_path / "packed.pt"
    torch.save({"w": torch.zeros(1000)}, plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert read_weights(plain)["w"].shape == (1000,)
    with pytest.raises(ValueError, match="it is compressed"):
        read_weights(packed)


def dicom(path: Path, rows: int, syntax: str) -> Path:
    """A DICOM file without pixels."""
    pydicom = pytest.importorskip("pydicom")
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = meta.MediaStorageSOPInstanceUID = "1.2"
    data = pydicom.Dataset()
    data.file_meta = meta
    data.PatientID, data.SeriesDescription = "a", "t1_mprage"
    data.Rows = data.Columns = rows
    pydicom.dcmwrite(path, data, enforce_file_format=True)
    return path


def test_a_series_of_very_many_voxels_is_not_converted(tmp_path: Path) -> None:
    pytest.importorskip("dcm2niix")
    file = dicom(tmp_path / "a.dcm", 60_000, "1.2.840.10008.1.2.4.70")
    with pytest.raises(UnusableImageError, match="describe 3600000000 voxels, more than"):
        convert([file], tmp_path / "x.nii.gz")


def test_a_deflated_data_set_is_not_inflated(tmp_path: Path) -> None:
    file = dicom(tmp_path / "a.dcm", 8, "1.2.840.10008.1.2.1.99")
    with pytest.raises(VQBrainError, match="no T1 series among its DICOM files"):
        read_dicom(file.parent)
