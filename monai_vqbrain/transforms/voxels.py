"""Images of any source: opened and read in no more memory than their headers describe.

A compressed file may inflate to any size, and a header may describe any size. What nibabel raises
for a damaged file depends on which byte is wrong, so all of it becomes one kind of error here.
"""

from __future__ import annotations

import math
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from monai_vqbrain.transforms.input_image import UNREADABLE

try:  # the extra `fast`: the same bytes in less time
    from isal import isal_zlib as zlib
except ImportError:
    import zlib  # type: ignore[no-redef]

MAX_VOXELS = 2**29  # 0.3 mm in a whole head
MAX_HEADER = 2**24  # bytes before the voxels, extensions included
MAX_RATIO = 1032  # of DEFLATE: inflated bytes per byte
COMPRESSED = (".gz", ".mgz", ".bz2", ".zst")
CHUNK = 2**24  # bytes


def open_image(path: Path | str) -> Any:
    """Open an image; no voxel is read.

    Args:
        path: any volume or slice that nibabel reads.

    Raises:
        ValueError: if it cannot be opened.
    """
    try:
        _check_header(path)
        image: Any = nib.load(path)
    except Exception as error:  # its type depends on which byte is wrong
        raise ValueError(_first_line(error)) from error
    return image


def read_stored(image: Any) -> np.ndarray:
    """Read the values of an image as they are stored, without its slope and intercept.

    Args:
        image: the result of `open_image`.

    Raises:
        ValueError: if the file is damaged, or does not hold what its header describes.
    """
    proxy = image.dataobj
    try:
        _check_size(image)
        if not isinstance(proxy, nib.arrayproxy.ArrayProxy):
            return np.asanyarray(proxy)
        if str(image.file_map["image"].filename).lower().endswith(COMPRESSED):
            return _inflate(image)
        # copied: a memory map would show a file that is replaced meanwhile
        return np.array(proxy.get_unscaled())
    except Exception as error:  # its type depends on which byte is wrong
        raise ValueError(_first_line(error)) from error


def read_scaled(image: Any) -> np.ndarray:
    """Read the values of an image as `read_stored`, with its slope and intercept."""
    values, proxy = read_stored(image), image.dataobj
    if not isinstance(proxy, nib.arrayproxy.ArrayProxy) or (proxy.slope, proxy.inter) == (1, 0):
        return values
    scaled: np.ndarray = values * proxy.slope + proxy.inter
    return scaled


def _check_header(path: Path | str) -> None:
    """Refuse a NIfTI file whose voxels begin at an impossible place: nibabel reads all before."""
    if Path(path).exists() and not Path(path).is_file():  # reading a pipe would wait for ever
        raise ValueError("it is a folder, pipe, socket or device, not a file")
    try:
        with nib.openers.ImageOpener(str(path)) as file:
            start = file.read(nib.Nifti2Header.sizeof_hdr)
    except UNREADABLE:
        return  # nibabel says what is wrong
    for kind in (nib.Nifti1Header, nib.Nifti2Header):
        if len(start) >= kind.sizeof_hdr and kind.may_contain_header(start):
            header = kind.from_fileobj(BytesIO(start[: kind.sizeof_hdr]), check=False)
            offset = float(header["vox_offset"])
            single = bytes(header["magic"])[:2] == b"n+"  # else the voxels have a file of their own
            if not kind.sizeof_hdr * single <= offset <= MAX_HEADER:
                raise ValueError(f"its header says that voxels begin at byte {offset:g}")


def _check_size(image: Any) -> None:
    count = math.prod(image.shape)
    if count > MAX_VOXELS:
        raise ValueError(f"its header describes {count} voxels, more than {MAX_VOXELS}")
    proxy = image.dataobj
    if not isinstance(proxy, nib.arrayproxy.ArrayProxy):
        return
    path = Path(image.file_map["image"].filename)
    most = path.stat().st_size
    if path.name.lower().endswith(COMPRESSED):
        most = most * MAX_RATIO if path.name.lower().endswith("gz") else MAX_VOXELS * 8
    needed = count * proxy.dtype.itemsize
    if needed > most:
        raise ValueError(f"Expected {needed} bytes of voxels, the file holds {most} at most")


def _inflate(image: Any) -> np.ndarray:
    proxy, path = image.dataobj, Path(image.file_map["image"].filename)
    needed = proxy.offset + math.prod(proxy.shape) * proxy.dtype.itemsize
    content = _inflate_member(path, needed) if path.name.lower().endswith("gz") else b""
    if len(content) < needed:  # another compression, or several gzip members
        content = _read_chunks(image, needed)
    return np.ndarray(proxy.shape, proxy.dtype, content, proxy.offset, order=proxy.order)


def _inflate_member(path: Path, needed: int) -> bytes:
    """The first bytes of a gzip member, inflated at once in half of nibabel's time."""
    stream = zlib.decompressobj(wbits=31)
    content = stream.decompress(path.read_bytes(), needed)
    if len(content) == needed and not stream.eof:  # the checksum follows
        if len(stream.decompress(stream.unconsumed_tail, CHUNK)) == CHUNK:
            raise ValueError("it holds more than its header describes")
        if not stream.eof:
            raise ValueError("the end of its compressed data is missing")
    return content


def _read_chunks(image: Any, needed: int) -> bytes:
    """The first bytes of an image file; memory grows with what is there, not with the header."""
    content = bytearray()
    with image.file_map["image"].get_prepare_fileobj("rb") as file:
        while len(content) < needed:
            chunk = file.read(min(CHUNK, needed - len(content)))
            if not chunk:
                raise ValueError(f"expected {needed} bytes, got {len(content)}")
            content += chunk
    return bytes(content)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
