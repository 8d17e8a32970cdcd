"""Files are compared by content: cheaply where size, times and inode are those recorded."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from monai_vqbrain import contents
from monai_vqbrain.contents import (
    content_sha256,
    describe_file,
    is_sealed,
    is_unchanged,
    seal,
)
from monai_vqbrain.files import sha256


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.pt"
    path.write_bytes(b"weights")
    return path


def test_a_file_as_it_was_is_not_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = describe_file(file)
    assert recorded["bytes"] == 7
    assert recorded["sha256"] == sha256(file)
    contents._hashes.clear()  # as in another process
    monkeypatch.setattr(contents, "sha256", lambda path: pytest.fail(f"hashed {path}"))
    assert is_unchanged(file, recorded)


def test_a_copy_is_the_same(file: Path) -> None:
    recorded = describe_file(file)
    copy = Path(shutil.copy(file, file.with_name("copy.pt")))
    os.utime(copy, (0, 0))
    assert is_unchanged(copy, recorded)


def test_one_byte_is_noticed_even_if_the_time_is_set_back(file: Path) -> None:
    recorded, times = describe_file(file), file.stat()
    file.write_bytes(b"weighty")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert not is_unchanged(file, recorded)


def test_files_that_swap_their_names_are_noticed(file: Path) -> None:
    other = file.with_name("other.pt")
    other.write_bytes(b"WEIGHTS")
    recorded = describe_file(file)
    times = file.stat()
    file.rename(file.with_name("between"))
    other.rename(file)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert not is_unchanged(file, recorded)


def test_a_file_that_is_gone_has_changed(file: Path) -> None:
    recorded = describe_file(file)
    file.unlink()
    assert not is_unchanged(file, recorded)


def test_the_order_of_a_safetensors_header_does_not_count(tmp_path: Path) -> None:
    files = [tmp_path / f"{n}.safetensors" for n in range(3)]
    for value, path in zip((1, 1, 2), files, strict=True):
        codes = {"codes": np.full((4, 1, 2, 2), value, np.uint16)}
        save_file(codes, path, {"grid": "2x2", "num_codes": "8"})
    raw = files[1].read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = dict(reversed(json.loads(raw[8 : 8 + length]).items()))
    header["__metadata__"] = {"num_codes": "8", "grid": "2x2"}
    text = json.dumps(header, separators=(",", ":")).encode().ljust(length)
    files[1].write_bytes(raw[:8] + text + raw[8 + length :])
    assert content_sha256(files[0]) == content_sha256(files[1])
    assert content_sha256(files[0]) != content_sha256(files[2])


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\x05" + bytes(7) + b"[1,2]"])
def test_a_damaged_safetensors_file_has_the_hash_of_its_bytes(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "codes.safetensors"
    path.write_bytes(content)
    assert content_sha256(path) == sha256(path)


def test_a_seal_shows_every_change_of_a_record() -> None:
    record = json.loads(json.dumps(seal({"options": {"size": (32, 32)}, "seconds": 1.5})))
    assert is_sealed(record)
    assert not is_sealed(record | {"seconds": 1.4})
    assert not is_sealed({n: v for n, v in record.items() if n != "options"})
    assert not is_sealed({})
    assert not is_sealed(None)
