"""All scores of a run: the content of metrics.json."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from monai_vqbrain import metrics
from monai_vqbrain.cohorts.splits import SPLITS, check_splits
from monai_vqbrain.documents import read_json
from monai_vqbrain.provenance import read_provenance
from monai_vqbrain.runs.codes import read_codes
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.sample_sets import current_sets, main_set, read_samples
from monai_vqbrain.runs.tables import in_split, read_slices_table
from monai_vqbrain.stages.reporting import figures
from monai_vqbrain.stages.reporting.coherence import Decode, compare_volumes
from monai_vqbrain.stages.reporting.fidelity import (
    draw_worst,
    fidelity,
    fidelity_groups,
    trivial_fidelity,
)
from monai_vqbrain.stages.reporting.run_images import decode_slices
from monai_vqbrain.tables import SLICE_KEYS, finite_or_none, read_table, write_table

SCHEMA = 3
SAMPLES_COMPARED = 256  # maximum; the figure shows the first eight


def summarise(run: RunFolder, work: Path, decode: Decode | None = None) -> dict[str, Any]:
    """All numbers of metrics.json; those of stages that the run does not have are absent.

    Args:
        run: the run folder, with at least 2-slices.
        work: the folder of fidelity.tsv and bits.tsv, from the bundles' evaluations, if they ran;
            nearest.tsv, nearest.png and cuts.png are written here.
        decode: the VQ-VAE's decoder; without it samples are not compared with training slices.

    Returns:
        JSON values only.
    """
    provenance = read_provenance(run.slices) or {}
    summary: dict[str, Any] = {
        "schema": SCHEMA,
        "simulated": bool(provenance.get("simulated", False)),
        "split": split_counts(run),
        "fidelity": {},
    }
    if (work / "fidelity.tsv").is_file():
        scores = read_table(work / "fidelity.tsv")
        summary["fidelity"]["test"] = fidelity(scores)
        summary["fidelity"]["groups"] = fidelity_groups(run, scores)
        if decode is not None:
            draw_worst(run, scores, decode, work / "worst.png")
    summary["fidelity"].update(trivial_fidelity(run, work))
    if (run.codes / "codes.safetensors").is_file():
        summary["codebook"] = codebook_use(run)
        if (work / "bits.tsv").is_file():
            summary["prior"] = prior_bits(run, read_table(work / "bits.tsv"))
        name, files = main_set(run)
        if decode is not None and files:
            summary["set"] = name
            summary["samples"] = compare_samples(run, files, work, decode)
            summary |= first_volumes(run, work, decode)
    return summary


def first_volumes(run: RunFolder, work: Path, decode: Decode) -> dict[str, Any]:
    """`volumes`, the coherence of the first set of sampled volumes; empty if there is none."""
    for name, files in current_sets(run).items():
        if read_samples(files[:1]).shape[0] > 1:
            found = compare_volumes(run, files, decode, work / "cuts.png")
            return {"volumes": {"set": name} | found}
    return {}


def codebook_use(run: RunFolder) -> dict[str, Any]:
    """Number of codes in use and perplexity, for the test slices and for each split."""
    codes, rows, num_codes = read_codes(run)
    use: dict[str, Any] = {"num_codes": num_codes, "grid": list(codes.shape[1:])}
    for split in SPLITS:
        counts = metrics.code_counts(codes[in_split(rows, split)], num_codes)
        use[split] = {"used": metrics.codes_used(counts), "perplexity": metrics.perplexity(counts)}
    return {**use["test"], **use}


def prior_bits(run: RunFolder, bits: pd.DataFrame) -> dict[str, Any]:
    """Bits of test slices under the prior and under unigrams of the training codes.

    The prior is given each slice's conditions, including its position. Its baseline is therefore
    the unigram per grid position and slice position; the one per grid position is reported, too.
    The difference is paired: per slice, then over participants. If the prior also takes the
    previous slice, there is a second figure with it.

    Args:
        run: the run folder.
        bits: bits.tsv of the bundle's evaluation: bits of each whole test grid.
    """
    codes, rows, num_codes = read_codes(run)
    size = int(np.prod(codes.shape[1:]))
    unigrams, concentrations = _unigram_bits(codes, rows, num_codes)
    table = bits.merge(unigrams, on=list(SLICE_KEYS), validate="one_to_one")
    participants = _participants(table)

    def per_code(values: pd.Series) -> metrics.MeanInterval:
        return metrics.over_participants(values / size, participants)

    code, unigram = per_code(table["bits"]), per_code(table["unigram"])
    found = {
        "bits_per_code": finite_or_none(code.mean),
        "bits_per_image": finite_or_none(code.mean * size),
        "bits_per_code_interval": code.as_json(),
        "unigram_bits_per_code": finite_or_none(unigram.mean),
        "unigram_bits_per_code_interval": unigram.as_json(),
        "unigram_minus_prior_interval": per_code(table["unigram"] - table["bits"]).as_json(),
        "unigram_grid_bits_per_code": finite_or_none(per_code(table["unigram_grid"]).mean),
        "unigram_concentration": concentrations,
        "uniform_bits_per_code": float(np.log2(num_codes)),
    }
    if "bits_after" in table:
        found["bits_per_code_after_interval"] = per_code(table["bits_after"]).as_json()
    return found


def _unigram_bits(
    codes: np.ndarray, rows: pd.DataFrame, num_codes: int
) -> tuple[pd.DataFrame, list[float]]:
    """Bits of each whole test grid under both unigrams, and the smoothing chosen on validation."""
    training, validation, test = (in_split(rows, split) for split in SPLITS)
    slices = rows["index"].to_numpy()
    unigram = metrics.Unigram.fit(codes[training], num_codes, slices[training])
    both = unigram.choose(codes[validation], slices[validation])
    grid_only = unigram.choose(codes[validation])
    table = rows.loc[test, list(SLICE_KEYS)].assign(
        unigram=unigram.bits(codes[test], slices[test], both),
        unigram_grid=unigram.bits(codes[test], concentrations=grid_only),
    )
    return table, list(both)


def compare_samples(
    run: RunFolder, files: Sequence[Path], work: Path, decode: Decode
) -> dict[str, Any]:
    """Distance of each sampled slice to its nearest training slice, both decoded by the VQ-VAE.

    Undecoded slices contain detail that no decoded image has, and would all be distant. The same
    distance for test slices is that of real, unseen participants.
    """
    samples = read_samples(files[:SAMPLES_COMPARED])[:SAMPLES_COMPARED]
    slices = len(read_samples(files[:1]))
    names = np.repeat([file.name for file in files], slices)[: len(samples)]
    codes, rows, _ = read_codes(run)
    training, test = (rows[in_split(rows, s)] for s in ("training", "test"))
    known = decode_slices(codes[in_split(rows, "training")], decode, work)
    indices, distance = metrics.nearest(samples, known)
    table = training.iloc[indices][["participant_id", "session_id", "axis", "index"]]
    table = table.assign(sample=names, rms=distance / 255)
    write_table(table, work / "nearest.tsv")
    (work / "nearest.png").write_bytes(figures.beside_nearest(samples[:8], known[indices[:8]]))
    result: dict[str, Any] = {
        "compared": len(samples),
        "distance_to_training": finite_or_none(np.median(distance) / 255),
    }
    if len(test):
        held_out = decode_slices(codes[in_split(rows, "test")], decode, work)
        real = np.median(metrics.nearest(held_out, known)[1])
        result["test_distance_to_training"] = finite_or_none(real / 255)
    return result


def split_counts(run: RunFolder) -> dict[str, Any]:
    """Participants, sessions and slices in each split.

    Raises:
        VQBrainError: if a participant is in two splits of the tables that stages read.
    """
    rows = read_slices_table(run)
    tables = _split_tables(run)
    check_splits(pair for pairs in tables.values() for pair in pairs)
    parts = {s: rows[in_split(rows, s)] for s in SPLITS}
    sessions = {
        s: len(part.drop_duplicates(["participant_id", "session_id"])) for s, part in parts.items()
    }
    return {
        "participants": {s: int(part["participant_id"].nunique()) for s, part in parts.items()},
        "sessions": sessions,
        "slices": {s: len(part) for s, part in parts.items()},
        "compared": list(tables),
    }


def _split_tables(run: RunFolder) -> dict[str, list[tuple[str, str]]]:
    """(participant, split) of each row of the tables that training and evaluation read, by name."""
    rows = read_slices_table(run)
    tables = {"slices.tsv": list(zip(_participants(rows), rows["split"], strict=True))}
    path = run.slices / "datalist.json"
    if path.is_file():
        lists = read_json(path, {f"{split}?": [{"participant_id": str}] for split in SPLITS})
        tables[path.name] = [(i["participant_id"], s) for s in SPLITS for i in lists.get(s, ())]
    if (run.codes / "codes.tsv").is_file():
        rows = read_table(run.codes / "codes.tsv")
        tables["codes.tsv"] = list(zip(_participants(rows), rows["split"], strict=True))
    return tables


def _participants(rows: pd.DataFrame) -> list[str]:
    return [str(participant) for participant in rows["participant_id"]]
