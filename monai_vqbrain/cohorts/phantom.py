"""The built-in cohort: simulated participants, written as a BIDS dataset."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from monai_vqbrain.cohorts.bids import description
from monai_vqbrain.cohorts.phantom_brain import Body, Phantom, draw_body, phantom_brain
from monai_vqbrain.errors import UsageError
from monai_vqbrain.files import building
from monai_vqbrain.progress import progress

MEAN_SIZE = {"F": 0.985, "M": 1.015}
COLUMNS = {
    "age": "years, simulated",
    "sex": "M or F, simulated; M have slightly larger heads",
    "group": "CN or AD, simulated; AD have widened lateral ventricles and are older",
    "widening_mm": "displacement of the walls of the lateral ventricles, outwards",
    "ventricle_volume_ml": "true volume of the lateral ventricles",
}


@dataclass(frozen=True)
class Visit:
    """Simulated data of a participant at one visit: age in years, widening in mm."""

    session_id: str
    age: float
    widening_mm: float


@dataclass(frozen=True)
class SimulatedParticipant:
    """The parameters of a simulated participant, without images."""

    number: int
    participant_id: str
    group: str
    sex: str
    body: Body
    visits: tuple[Visit, ...]


def make_phantom(
    out: Path | str,
    participants: int = 24,
    seed: int = 0,
    resolution_mm: float = 2.0,
    skull: bool = False,
    second_sessions: float = 0.25,
) -> Path:
    """Write a simulated cohort of skull-stripped T1 volumes as a BIDS dataset.

    Every second participant is in group AD: older, with wider ventricles. Each depends only on the
    seed and the participant's number, so that a larger cohort contains the smaller one. An existing
    cohort with the same options is left unchanged.

    Args:
        out: the dataset's folder; only a simulated cohort in it is replaced.
        participants: number of participants.
        seed: of the random parameters.
        resolution_mm: edge of a voxel, 0.5 to 8 mm.
        skull: simulate skull and scalp.
        second_sessions: the fraction of participants, 0 to 1, with a second session a year or two
            later.

    Returns:
        `out`.

    Raises:
        UsageError: if an option is out of range, or `out` contains something else.
    """
    out = Path(out)
    options: dict[str, Any] = {
        "participants": participants,
        "seed": seed,
        "resolution_mm": float(resolution_mm),
        "skull": skull,
        "second_sessions": float(second_sessions),
    }
    _check(out, participants, resolution_mm, second_sessions)
    if description(out).get("Simulated") == options:
        return out
    numbers = range(1, participants + 1)
    simulated = [draw_participant(seed, number, second_sessions) for number in numbers]
    visits = [(participant, visit) for participant in simulated for visit in participant.visits]
    rows: list[dict[str, Any]] = []
    with building(out) as folder:
        for participant, visit in progress(visits, "simulating brains", unit="brain"):
            phantom = make_scan(participant, visit, seed, resolution_mm, skull)
            _write_scan(folder, participant, visit, phantom)
            rows.append(_row(participant, visit, phantom))
        _write_tables(folder, pd.DataFrame(rows))
        _write_json(folder / "dataset_description.json", _description(options))
        (folder / "README").write_text(README)
    return out


def draw_participant(seed: int, number: int, second_sessions: float = 0.25) -> SimulatedParticipant:
    """Draw the parameters of a participant: body, sex, age, ventricles.

    Args:
        seed: the cohort's.
        number: the participant's, from 1; odd ones are CN, even ones AD.
        second_sessions: the fraction of participants with a second session.
    """
    rng = np.random.default_rng([seed, number])
    group = "AD" if number % 2 == 0 else "CN"
    sex = "M" if rng.random() < 0.5 else "F"
    low, high, base, yearly = (66, 90, 2.7, 0.3) if group == "AD" else (55, 82, 0.4, 0.1)
    age = low + (high - low) * _spread(seed, (number + 1) // 2)
    widening = float(np.clip(base + 0.035 * (age - 60) + rng.normal(0, 0.3), 0, 5))
    visits = [Visit("ses-01", round(age, 1), round(widening, 2))]
    years = rng.uniform(1, 2)
    if _has_second_session(number, second_sessions):
        later = Visit("ses-02", round(age + years, 1), round(widening + yearly * years, 2))
        visits.append(later)
    body = draw_body(rng, MEAN_SIZE[sex])
    return SimulatedParticipant(number, f"sub-phantom{number:02d}", group, sex, body, tuple(visits))


def make_scan(
    participant: SimulatedParticipant, visit: Visit, seed: int, resolution_mm: float, skull: bool
) -> Phantom:
    """Simulate the image of one visit, with its own noise, contrast and bias field."""
    session = int(visit.session_id.removeprefix("ses-"))
    rng = np.random.default_rng([seed, participant.number, session])
    return phantom_brain(participant.body, visit.widening_mm, rng, resolution_mm, skull)


def _spread(seed: int, pair: int) -> float:
    """A fraction in [0, 1) for each pair, by the golden ratio: evenly spread for any number."""
    return float((np.random.default_rng([seed, 0]).random() + 0.618034 * pair) % 1)


def _has_second_session(number: int, share: float) -> bool:
    """True for both of a pair (CN, AD) or neither, so that it is independent of the group."""
    pair = (number + 1) // 2
    return int(pair * share + 1e-9) > int((pair - 1) * share + 1e-9)


def _check(out: Path, participants: int, resolution_mm: float, second_sessions: float) -> None:
    if participants < 1:
        raise UsageError(f"participants is {participants}: choose 1 or more")
    if not 0.5 <= resolution_mm <= 8:
        raise UsageError(f"resolution_mm is {resolution_mm}: choose 0.5 to 8")
    if not 0 <= second_sessions <= 1:
        raise UsageError(f"second_sessions is {second_sessions}: choose 0 to 1")
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not _is_phantom(out)):
        raise UsageError(
            f"{out} contains something else than a simulated cohort: name a new folder"
        )


def _is_phantom(out: Path) -> bool:
    return "Simulated" in description(out)


def _write_scan(
    folder: Path, participant: SimulatedParticipant, visit: Visit, phantom: Phantom
) -> None:
    image = nib.Nifti1Image(phantom.volume, phantom.affine)
    image.header["descrip"] = b"simulated brain, monai-vqbrain phantom"
    image.header.set_xyzt_units("mm")
    image.set_sform(phantom.affine, code=1)
    image.set_qform(phantom.affine, code=1)
    anat = folder / participant.participant_id / visit.session_id / "anat"
    anat.mkdir(parents=True)
    nib.save(image, anat / f"{participant.participant_id}_{visit.session_id}_T1w.nii.gz")


def _row(participant: SimulatedParticipant, visit: Visit, phantom: Phantom) -> dict[str, Any]:
    return {
        "participant_id": participant.participant_id,
        "sex": participant.sex,
        "group": participant.group,
        **asdict(visit),
        "ventricle_volume_ml": round(phantom.ventricle_volume_ml, 2),
    }


def _write_tables(folder: Path, scans: pd.DataFrame) -> None:
    first = scans[scans.session_id == "ses-01"]
    _write_table(first[["participant_id", *COLUMNS]], folder / "participants.tsv")
    _write_json(
        folder / "participants.json", {name: {"Description": is_} for name, is_ in COLUMNS.items()}
    )
    for participant, visits in _by_participant(scans):
        table = visits.rename(columns={"group": "diagnosis"})
        names = ["session_id", "age", "diagnosis", "widening_mm", "ventricle_volume_ml"]
        _write_table(table[names], folder / participant / f"{participant}_sessions.tsv")


def _by_participant(scans: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for participant, visits in scans.groupby("participant_id", sort=False):
        yield str(participant), visits


def _write_table(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, sep="\t", index=False, na_rep="n/a", lineterminator="\n")


def _write_json(path: Path, record: dict[str, Any]) -> None:
    path.write_text(json.dumps(record, indent=2) + "\n")


def _description(options: dict[str, Any]) -> dict[str, Any]:
    return {
        "Name": "Simulated brains (monai-vqbrain phantom), no scans of participants",
        "BIDSVersion": "1.9.0",
        "DatasetType": "raw",
        "GeneratedBy": [{"Name": "monai-vqbrain phantom", "Description": "simulated T1 volumes"}],
        "Acknowledgements": "MNI152 2009a template, as packaged by nilearn: (C) 1993-2009 Louis "
        "Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill",
        "Simulated": options,
    }


README = """\
Simulated brains, not scans: figures from this cohort are not valid for real participants.

Each volume is the MNI152 (2009a) T1 average of nilearn, deformed, with another
contrast, a bias field and noise. In group AD the lateral ventricles are widened by a known amount:
widening_mm and ventricle_volume_ml in participants.tsv (first session) and *_sessions.tsv.
"""
