"""A plain folder of NIfTI files, with or without tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from monai_vqbrain.cohorts.cohort import Cohort, Problem, Scan, visit_order
from monai_vqbrain.cohorts.file_names import (
    MASK_ENDING,
    is_brain_mask,
    is_other_kind,
    loose_name,
    participants_by_name,
    plain,
    preference,
)
from monai_vqbrain.cohorts.folder_tables import FolderTables, is_table, read_folder_tables
from monai_vqbrain.cohorts.names import is_nifti, parse_name, stem
from monai_vqbrain.cohorts.participant_tables import Key, Row, bare
from monai_vqbrain.cohorts.walk import walk
from monai_vqbrain.errors import VQBrainError

OTHER_FORMATS = {
    ".mgz", ".mgh", ".hdr", ".img", ".mnc", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm", ".ima",
    ".jpg", ".jpeg", ".png",
}  # fmt: skip
NEEDED = "add a table with filename, participant_id, session_id"


@dataclass(frozen=True)
class File:
    """An image and its participant.

    Args:
        path: relative to the source.
        key: participant and session.
        rows: of tables that name the file.
        assumed: the participant is known only from a name that could also be that of a visit.
    """

    path: Path
    key: Key
    rows: Sequence[Row] = ()
    assumed: bool = False


def is_folder(source: Path) -> bool:
    """Whether there is a NIfTI file at any depth."""
    return any(is_nifti(path) for path in walk(source)[0])


def read_folder(
    source: Path, columns: Mapping[str, str] | None = None, table: Path | None = None
) -> Cohort:
    """Read every NIfTI file below a folder as one T1 volume.

    Rows of the tables in the folder are matched to files by a column of file names, by LONI's image
    id, or by participant and session if the file has a BIDS name. If neither a table nor such a
    name gives the participant, each file counts as one participant, and the cohort has a note.
    Masks, label maps and other contrasts are recognised by their names. A brain mask is
    `<image's name>_desc-brain_mask.nii[.gz]`, with or without the image's `_T1w`.

    Args:
        source: the folder.
        columns: role -> column, for columns without a usual name.
        table: the only table to read; by default all in the folder.

    Returns:
        The cohort, one scan for each participant and session: the one with the plainest name.

    Raises:
        VQBrainError: if there is no image.
        UsageError: if a requested column does not exist.
    """
    below, unread = walk(source)
    files = [path.relative_to(source) for path in below]
    nifti = [path for path in files if is_nifti(path)]
    images = [path for path in nifti if not is_other_kind(path, nifti)]
    if not images:
        names = ", ".join(path.name for path in nifti[:3])
        raise VQBrainError(f"{source} has no T1 image, only {names}")
    tables = read_folder_tables(source, columns, table)
    found, problems = _files(images, tables)
    used, repeats = _one_each(found)
    rows = [Row(*one.key, row.facts, of_session_table=True) for one in used for row in one.rows]
    participants = tables.participants.with_rows(rows)
    known, unfit = participants.facts(one.key for one in used)
    masks = {path.parent / stem(path).removesuffix(MASK_ENDING): path
             for path in nifti if is_brain_mask(path)}  # fmt: skip
    scans = [
        Scan(
            participant_id=one.key[0],
            session_id=one.key[1],
            path=source / one.path,
            mask_path=_mask_of(one.path, masks, source),
            source=one.path.as_posix(),
            **vars(known[one.key]),
        )
        for one in used
    ]
    problems = [
        *participants.problems, *_without_rows(used, tables), *problems, *_other_kinds(nifti),
        *_other_formats(files), *_tables_below(files, table), *unread, *repeats, *unfit,
    ]  # fmt: skip
    return Cohort(
        root=source,
        layout="folder",
        scans=tuple(sorted(scans, key=visit_order)),
        problems=tuple(problems),
        columns=participants.columns,
        notes=assumed_note([one.assumed for one in used], "files", NEEDED),
    )


def assumed_note(assumed: Sequence[bool], what: str, advice: str) -> tuple[str, ...]:
    """The note that images are assumed to be one participant each, if any are."""
    if not any(assumed):
        return ()
    share = f"{sum(assumed)} of {len(assumed)} {what}"
    note = (
        f"{share} are assumed to be one participant each, since their participants are unknown: a "
        "participant scanned twice may be in two splits, which makes test figures too optimistic; "
        f"{advice}"
    )
    return (note,)


def _files(images: Sequence[Path], tables: FolderTables) -> tuple[list[File], list[Problem]]:
    """The participant of each image, by the tables, else by its name; problems if ambiguous."""
    by_name, unnamed = participants_by_name(images)
    by_table, problems = tables.rows_of_files(images)
    found = []
    for path in images:
        rows = by_table.get(path, [])
        participants = dict.fromkeys(row.participant for row in rows if row.participant)
        sessions = dict.fromkeys(row.session for row in rows if row.session)
        if len(participants) > 1 or len(sessions) > 1:
            several = ", ".join(participants if len(participants) > 1 else sessions)
            where = tables.participants.where
            problem = f"has several participants or sessions in {where} ({several}): skipped"
            problems.append(Problem(path.as_posix(), problem, "fix the table"))
            continue
        participant, session = by_name[path]
        key = (next(iter(participants), participant), next(iter(sessions), session))
        known = participants or bare(key[0]) in tables.participants.rows
        found.append(File(path, key, rows, assumed=path in unnamed and not known))
        if parse_name(path) is None and loose_name(path) is not None and not participants:
            problem = f"has a label with characters that BIDS forbids, read as {key[0]}"
            problems.append(Problem(path.as_posix(), problem, "rename it"))
    return found, problems


def _one_each(files: Iterable[File]) -> tuple[list[File], list[Problem]]:
    """The plainest name of each participant and session, and a problem for each other."""
    used: dict[Key, File] = {}
    problems = []
    for one in sorted(files, key=lambda file: preference(file.path)):
        first = used.setdefault(one.key, one)
        if first is not one:
            name = "_".join(filter(None, one.key))
            problem = f"another file is used for {name}: {first.path.as_posix()}"
            problems.append(Problem(one.path.as_posix(), problem, f"nothing, or {NEEDED}"))
    return list(used.values()), problems


def _without_rows(files: Sequence[File], tables: FolderTables) -> list[Problem]:
    """A problem for files without rows in the tables, and for rows without a file."""
    problems = []
    assumed = sum(one.assumed for one in files)
    if assumed:
        share = f"{assumed} of {len(files)} files"
        problem = f"no table names participants: {share} are assumed to be one participant each"
        problems.append(Problem("participants.tsv", problem, NEEDED))
    if tables.empty:
        return problems
    listed = tables.participants
    problems += [
        Problem(one.path.name, f"is not in {listed.where}", "add a row for diagnosis, sex and age")
        for one in files
        if not one.rows and bare(one.key[0]) not in listed.rows
    ]
    scanned = {bare(one.key[0]) for one in files}
    without_image = dict.fromkeys(name for name in listed.listed if bare(name) not in scanned)
    return problems + [
        Problem(name, "has no T1 image", "nothing, or add the image") for name in without_image
    ]


def _mask_of(image: Path, masks: Mapping[Path, Path], source: Path) -> Path | None:
    names = (plain(image), stem(image))
    found = next((masks[image.parent / n] for n in names if image.parent / n in masks), None)
    return None if found is None else source / found


def _other_kinds(nifti: Sequence[Path]) -> list[Problem]:
    return [
        Problem(
            path.as_posix(),
            "is not a T1 image by its name",
            f"nothing; a brain mask is named <image>{MASK_ENDING}",
        )
        for path in nifti
        if is_other_kind(path, nifti) and not is_brain_mask(path)
    ]


def _tables_below(files: Sequence[Path], table: Path | None) -> list[Problem]:
    """One problem for the tables in sub-folders, which are not read."""
    below = [path.as_posix() for path in files if path.parent.parts and is_table(path)]
    if table is not None or not below:
        return []
    what = f"was not read, since it is in a sub-folder (the first of {len(below)} such tables)"
    return [Problem(below[0], what, "name its folder as SOURCE, or the table by --table")]


def _other_formats(files: Sequence[Path]) -> list[Problem]:
    """A problem for each image in another format than NIfTI."""
    return [
        Problem(path.as_posix(), "is not a NIfTI file", "convert it to .nii or .nii.gz")
        for path in files
        if path.suffix.lower() in OTHER_FORMATS
    ]
