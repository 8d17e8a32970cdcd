"""Damaged inputs of every kind, drawn by hypothesis, to the functions that read them.

Anything but the package's own one-line errors counts as uncaught.
"""

from __future__ import annotations

import gzip
import json
import logging
import shutil
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from fault_stages import Finished, in_child
from hypothesis import HealthCheck, Phase, given, seed as seeded, settings, strategies as st

from monai_vqbrain.cohorts import read_cohort
from monai_vqbrain.cohorts.table_file import read_table
from monai_vqbrain.documents import read_json
from monai_vqbrain.errors import UnexpectedError, VQBrainError
from monai_vqbrain.provenance import read_provenance, what_changed
from monai_vqbrain.runs.codes import code_items, code_shape, read_codes
from monai_vqbrain.runs.conditions import joint_conditions, prior_conditions, read_joint
from monai_vqbrain.runs.datalist import all_items, check_datalist
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.freshness import check_models
from monai_vqbrain.runs.networks import load_network
from monai_vqbrain.runs.participants import RunParticipants
from monai_vqbrain.runs.records import slicing_options
from monai_vqbrain.runs.sample_sets import current_sets, read_sample, sample_sets
from monai_vqbrain.runs.splits import read_splits, stored_splits
from monai_vqbrain.runs.stacks import read_slices
from monai_vqbrain.runs.tables import read_slices_table
from monai_vqbrain.runs.training import read_metrics
from monai_vqbrain.stages.slicing.stack_cache import RECORD
from monai_vqbrain.stages.slicing.volume import read_volume
from monai_vqbrain.transforms import LoadSliced

BATCH = 500  # cases that hypothesis draws at a time
LAST_LINES = 3  # of a traceback, which distinguish kinds
VALUES = [
    None, True, -1, 3.5, 1e308, float("inf"), float("nan"), 10**30, "", "x", "../../x",
    "/etc/passwd", "$1", [], {}, [None], ["a"], {"a": 1}, "\ud800", "\0", [[[]]], -(2**63),
]  # fmt: skip
CELLS = [
    "", "n/a", "x", "-1", "1e400", "9" * 20, "../../x", "0.5", '"', "=1", "'", "NaN", "\t", ",",
    ";", "\n", "\r", "sub-01", "ses-1", "2006-04-18", "\u202e", "\0", "70,5", "070Y", "AD", "F",
]  # fmt: skip
TEXTS = (".tsv", ".csv", ".json")
Edits = Sequence[tuple[int, int, int]]  # how, where, which
EDITS = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 2**16 - 1), st.integers(0, 2**16 - 1)),
    min_size=1,
    max_size=6,
)


@dataclass(frozen=True)
class Target:
    """A file, and what reads it.

    Args:
        kind: `volume`, `dicom`, `table` or `run`.
        path: the file, which is damaged and put back.
        read: reads it.
    """

    kind: str
    path: Path
    read: Callable[[], Any]


SHARES = {"volume": 0.3, "table": 0.4, "run": 0.25, "dicom": 0.05}


def fuzz(finished: Finished, number: int, seed: int, told: Callable[[Any], None]) -> dict[str, Any]:
    """Read damaged inputs.

    Args:
        finished: has a finished run.
        number: of cases.
        seed: of what is drawn.
        told: called after every part with the figures so far.

    Returns:
        `cases`, their number by kind; `uncaught`, the number by exception and place.
    """
    run = finished.of("sample")
    cases, uncaught = Counter[str](), Counter[str]()
    for kind, share in SHARES.items():
        left = round(number * share)
        while left > 0:
            part = min(left, 20 * BATCH)
            place = finished.work / "fuzz"

            shutil.rmtree(place, ignore_errors=True)
            case = partial(fuzz_kind, kind, part, seed + left, place, run)
            done = in_child(case, finished.log)
            if done.error or done.killed:
                raise RuntimeError(f"fuzzing {kind} ended: {done.error or 'killed'}")
            cases.update({kind: done.answer["cases"]})
            uncaught.update(done.answer["uncaught"])
            left -= part
            told({"cases": dict(cases), "uncaught": dict(uncaught)})
    return {"cases": dict(cases), "uncaught": dict(uncaught)}


def fuzz_kind(kind: str, number: int, seed: int, folder: Path, run: Path) -> dict[str, Any]:
    """Read damaged inputs of one kind, made in a folder; see `fuzz`."""
    logging.disable(logging.CRITICAL)  # nibabel logs whatever is odd about a header
    targets = list(MAKERS[kind](folder, run))
    contents = [target.path.read_bytes() for target in targets]
    cases, uncaught = 0, Counter[str]()

    def case(which: int, edits: Edits) -> None:
        nonlocal cases
        cases += 1
        target, content = targets[which], contents[which]
        target.path.write_bytes(damaged(content, target.path.suffix, edits))
        if wrong := exception_of(target.read):
            uncaught[f"{target.kind}: {wrong}"] += 1
        target.path.write_bytes(content)

    while cases < number:
        before = cases
        drawn = given(st.integers(0, len(targets) - 1), EDITS)(case)
        with suppress(BaseExceptionGroup):
            seeded(seed + cases)(
                settings(
                    max_examples=min(BATCH, number - cases),
                    database=None,
                    deadline=None,
                    phases=(Phase.generate,),
                    suppress_health_check=list(HealthCheck),
                )(drawn)
            )()
        assert cases > before
    return {"cases": cases, "uncaught": dict(uncaught)}


def exception_of(read: Callable[[], Any]) -> str:
    """The exception that a reader raises, with its place, if it is none of the package's."""
    began = time.monotonic()
    try:
        read()
    except UnexpectedError as error:
        return f"UnexpectedError: {error}"
    except VQBrainError as error:
        return "an error of several lines" if "\n" in str(error) else ""
    except Exception as error:  # noqa: BLE001  (that is what is looked for)
        place = traceback.extract_tb(error.__traceback__)[-LAST_LINES:]
        where = " > ".join(f"{Path(f.filename).name}:{f.lineno}" for f in place)
        return f"{type(error).__name__} at {where}"
    return "took over 10 s" if time.monotonic() - began > 10 else ""


def damaged(content: bytes, suffix: str, edits: Edits) -> bytes:
    """A file's content after some edits, that suit its form where it has one."""
    if suffix == ".gz" and edits[0][0] < 8:  # inside the compression
        with suppress(OSError, EOFError):
            return gzip.compress(damaged(gzip.decompress(content), "", edits), 1)
    for how, where, which in edits:
        if suffix == ".json" and how < 7:
            content = _edit_json(content, how, where, which)
        elif suffix in TEXTS and how < 7:
            content = _edit_cell(content, how, where, which)
        else:
            content = _edit_bytes(content, how, where, which)
    return content


def _edit_bytes(content: bytes, how: int, where: int, which: int) -> bytes:
    if not content:
        return bytes([which % 256])
    place = where % (min(len(content), 400) if how % 2 else len(content))
    if how == 9:
        return content[:place]
    if how == 8:
        return content[:place] + content[place + 1 + which % 16 :]
    if how == 7:
        return content[:place] + which.to_bytes(2, "little") + content[place:]
    if how >= 4:  # a 16-bit number
        return content[:place] + which.to_bytes(2, "little") + content[place + 2 :]
    return content[:place] + bytes([which % 256]) + content[place + 1 :]


def _edit_json(content: bytes, how: int, where: int, which: int) -> bytes:
    try:
        value = json.loads(content)
    except ValueError:
        return _edit_bytes(content, how, where, which)
    places = list(_entries(value))
    if not places:
        return json.dumps(VALUES[which % len(VALUES)]).encode()
    holder, key = places[where % len(places)]
    if how == 0:
        del holder[key]
    elif how == 1 and isinstance(holder, dict):
        holder[str(VALUES[which % len(VALUES)])] = holder.pop(key)
    else:
        holder[key] = VALUES[which % len(VALUES)]
    return json.dumps(value).encode()


def _entries(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each place in a JSON value, as its holder and the key there."""
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in list(pairs)[:8]:
            yield value, key
            yield from _entries(inner)


def _edit_cell(content: bytes, how: int, where: int, which: int) -> bytes:
    mark = b"," if b"," in content.split(b"\n")[0] else b"\t"
    rows = [line.split(mark) for line in content.split(b"\n")]
    row = rows[where % len(rows)]
    if how == 0:
        rows.remove(row)
    elif how == 1:
        rows.append(row)
    elif how == 2:
        row.append(CELLS[which % len(CELLS)].encode())
    elif how == 3:
        row.pop(which % len(row))
    elif how == 4 and which % 8 == 0:
        return (b"\xff\xfe" if which % 16 else b"\xef\xbb\xbf") + content
    else:
        row[which % len(row)] = CELLS[(which >> 4) % len(CELLS)].encode()
    return b"\n".join(mark.join(row) for row in rows)


def volumes(folder: Path, run: Path) -> Iterator[Target]:  # noqa: ARG001
    """Tiny volumes of each format."""
    folder.mkdir(parents=True)
    values = np.arange(6**3, dtype=np.int16).reshape(6, 6, 6)
    kinds = {"a.nii": nib.Nifti1Image, "b.nii.gz": nib.Nifti1Image, "c.nii": nib.Nifti2Image}
    kinds |= {"d.mgz": nib.MGHImage, "e.img": nib.Nifti1Pair}
    for name, kind in kinds.items():
        nib.save(kind(values, np.diag([20.0, 20, 20, 1])), folder / name)
        path = (folder / name).with_suffix(".hdr") if name == "e.img" else folder / name
        yield Target("volume", path, lambda path=folder / name: read_volume(path))


def dicom(folder: Path, run: Path) -> Iterator[Target]:  # noqa: ARG001
    """One series of three files without pixels."""
    import pydicom

    source = folder / "a"
    source.mkdir(parents=True)
    for index in range(3):
        dataset = pydicom.Dataset()
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.1.{index}"
        dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        dataset.SeriesInstanceUID, dataset.SeriesNumber = "1.2.1", 1
        dataset.SOPInstanceUID, dataset.Modality = f"1.2.1.{index}", "MR"
        dataset.PatientID, dataset.StudyDate, dataset.PatientSex = "anna_1", "20060418", "F"
        dataset.PatientAge, dataset.SeriesDescription = "070Y", "t1_mprage_sag"
        dataset.PatientBirthDate, dataset.EchoTime = "19360101", 3.1
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "M"]
        dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
        dataset.ImagePositionPatient = [-index, 20, 30]
        dataset.Rows = dataset.Columns = 4
        dataset.save_as(source / f"{index}.dcm", enforce_file_format=True)
    yield Target("dicom", source / "1.dcm", lambda: read_cohort(folder, "dicom"))


def tables(folder: Path, run: Path) -> Iterator[Target]:  # noqa: ARG001
    """Tables of participants, of sessions and of files beside empty images."""
    bids, flat = folder / "bids", folder / "flat"
    for number in range(1, 4):
        for session in ("M00", "M12")[: 3 - number]:
            name = f"sub-0{number}_ses-{session}_T1w.nii"
            place = bids / f"sub-0{number}" / f"ses-{session}" / "anat"
            place.mkdir(parents=True)
            (place / name).touch()
    flat.mkdir()
    for number in range(1, 4):
        (flat / f"p{number}.nii").touch()
    rows = [f"sub-0{n}\t{60 + n}.5\t{'FM'[n % 2]}\t{'AD' if n > 2 else 'CN'}" for n in range(1, 4)]
    participants = bids / "participants.tsv"
    participants.write_text("\n".join(["participant_id\tage\tsex\tdiagnosis", *rows]) + "\n")
    sessions = bids / "sub-01" / "sub-01_sessions.tsv"
    sessions.write_text("session_id\tage\tdiagnosis\nses-M00\t61\tCN\nses-M12\t62\tMCI\n")
    files = flat / "files.csv"
    files.write_text(
        "file,subject,visit,age,sex,group\n"
        + "\n".join(f"p{n}.nii,P{n},bl,{70 + n},M,AD" for n in range(1, 4))
    )
    for path, source in ((participants, bids), (sessions, bids), (files, flat)):
        for _ in range(3):  # reading a whole cohort takes ten times as long
            yield Target("table", path, lambda path=path: read_table(path))
        yield Target("table", path, lambda source=source: read_cohort(source))


def run_files(folder: Path, run: Path) -> Iterator[Target]:
    """The files of a run, each with what reads it."""
    shutil.copytree(run, folder)
    copy = RunFolder(folder)
    for name, read in _run_readers(copy).items():
        yield Target("run", copy.path / name, read)


def _run_readers(run: RunFolder) -> Mapping[str, Callable[[], Any]]:
    def slices() -> None:
        check_datalist(run.slices)
        LoadSliced()(all_items(run.slices)[0])

    def items() -> None:
        known = prior_conditions(run.path, "auto", views=True)
        joint_conditions(run.path, known)
        read_codes(run)
        code_shape(run.path)

    def prior() -> None:
        network: Any = load_network(run.prior)
        read_joint(run.path, network.settings["conditions"])

    def record() -> None:
        what_changed(run.slices, {}, {})
        slicing_options(run, "size", "spacing")
        check_models(run)

    stack = min(run.slices.glob("stacks/*_T1w.nii"))
    note = stack.with_name(stack.name.replace("_axial_T1w.nii", ".json"))
    return {
        "2-slices/datalist.json": slices,
        "2-slices/slices.tsv": lambda: (read_slices_table(run), RunParticipants(run)),
        "2-slices/participants.tsv": lambda: read_splits(run.slices / "participants.tsv"),
        "2-slices/provenance.json": record,
        f"2-slices/stacks/{stack.name}": lambda: read_slices(run, read_slices_table(run)[:4]),
        f"2-slices/stacks/{note.name}": lambda: read_json(note, RECORD),
        "splits.tsv": lambda: stored_splits(run, 0),
        "3-vqvae/config.json": lambda: load_network(run.vqvae),
        "3-vqvae/metrics.tsv": lambda: read_metrics(run.vqvae),
        "3-vqvae/model.pt": lambda: load_network(run.vqvae),
        "3-vqvae/provenance.json": lambda: (check_models(run), read_provenance(run.vqvae)),
        "4-codes/codes.tsv": items,
        "4-codes/codes.safetensors": lambda: (items(), code_items(run.path, "training")),
        "5-prior/config.json": prior,
        "5-prior/conditions.json": prior,
        "5-prior/metrics.tsv": lambda: read_metrics(run.prior),
        "6-samples/default/provenance.json": lambda: (sample_sets(run), current_sets(run)),
        "6-samples/default/sample-0001.nii.gz": lambda: read_sample(
            run.sample_set("default") / "sample-0001.nii.gz"
        ),
    }


MAKERS: dict[str, Callable[[Path, Path], Iterator[Target]]] = {
    "volume": volumes, "dicom": dicom, "table": tables, "run": run_files,
}  # fmt: skip
