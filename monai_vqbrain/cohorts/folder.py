"""A plain folder of NIfTI files, with or without tables beside them."""

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
    people_by_name,
    plain,
    preference,
)
from monai_vqbrain.cohorts.folder_tables import FolderTables, read_folder_tables
from monai_vqbrain.cohorts.names import is_nifti, parse_name, stem
from monai_vqbrain.cohorts.people import Key, Row, bare
from monai_vqbrain.cohorts.walk import walk
from monai_vqbrain.errors import VQBrainError

OTHER_FORMATS = {
    ".mgz", ".mgh", ".hdr", ".img", ".mnc", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm", ".ima",
    ".jpg", ".jpeg", ".png",
}  # fmt: skip
NEEDED = "add a table with filename, participant_id, session_id"


@dataclass(frozen=True)
class File:
    """An image and whom it shows.

    Args:
        path: relative to the source.
        key: participant and session.
        rows: of tables that name the file.
        assumed: only its name says who it is, and it might as well be that of a visit.
    """

    path: Path
    key: Key
    rows: Sequence[Row] = ()
    assumed: bool = False


def is_folder(source: Path) -> bool:
    """There is a NIfTI file somewhere below."""
    return any(is_nifti(path) for path in walk(source)[0])


def read_folder(
    source: Path, columns: Mapping[str, str] | None = None, table: Path | None = None
) -> Cohort:
    """Read every NIfTI file below a folder as one T1 volume.

    Rows of the tables in the folder belong to files by a column of file names, by LONI's image id,
    or by participant and session, of which a BIDS name tells. Where neither a table nor such a
    name says who it is, a file counts as a participant, and the cohort has a note. Masks, label
    maps and other contrasts are known by their names. A brain mask is
    `<image's name>_desc-brain_mask.nii[.gz]`, with or without the image's `_T1w`.

    Args:
        source: the folder.
        columns: role -> column, where the usual names do not do.
        table: the only table to read; by default all in the folder.

    Returns:
        The cohort, one scan for each participant and session: that of the plainest name.

    Raises:
        VQBrainError: no image.
        UsageError: a column that was asked for does not exist.
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
    people = tables.people.with_rows(rows)
    known, unfit = people.facts(one.key for one in used)
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
        *people.problems, *_not_told(used, tables), *problems, *_other_kinds(nifti),
        *_other_formats(files), *unread, *repeats, *unfit,
    ]  # fmt: skip
    return Cohort(
        root=source,
        layout="folder",
        scans=tuple(sorted(scans, key=visit_order)),
        problems=tuple(problems),
        columns=people.columns,
        notes=assumed_note([one.assumed for one in used], "files", NEEDED),
    )


def assumed_note(assumed: Sequence[bool], what: str, advice: str) -> tuple[str, ...]:
    """The note that images count as participants, if any do."""
    if not any(assumed):
        return ()
    share = f"{sum(assumed)} of {len(assumed)} {what}"
    note = (
        f"{share} count as one participant each, since nothing says whom they show: a participant "
        "scanned twice may be in two splits, so that test figures look better than they are; "
        f"{advice}"
    )
    return (note,)


def _files(images: Sequence[Path], tables: FolderTables) -> tuple[list[File], list[Problem]]:
    """Whom each image shows, by the tables, else by its name; a line for what is in doubt."""
    by_name, unnamed = people_by_name(images)
    by_table, problems = tables.rows_of_files(images)
    found = []
    for path in images:
        rows = by_table.get(path, [])
        participants = dict.fromkeys(row.participant for row in rows if row.participant)
        sessions = dict.fromkeys(row.session for row in rows if row.session)
        if len(participants) > 1 or len(sessions) > 1:
            several = ", ".join(participants if len(participants) > 1 else sessions)
            problem = f"is given to several in {tables.people.where} ({several}): passed over"
            problems.append(Problem(path.as_posix(), problem, "mend the table"))
            continue
        participant, session = by_name[path]
        key = (next(iter(participants), participant), next(iter(sessions), session))
        told = participants or bare(key[0]) in tables.people.rows
        found.append(File(path, key, rows, assumed=path in unnamed and not told))
        if parse_name(path) is None and loose_name(path) is not None and not participants:
            problem = f"has a label with characters that BIDS forbids, taken for {key[0]}"
            problems.append(Problem(path.as_posix(), problem, "rename it"))
    return found, problems


def _one_each(files: Iterable[File]) -> tuple[list[File], list[Problem]]:
    """The plainest name of each participant and session, and a line for each of the others."""
    used: dict[Key, File] = {}
    problems = []
    for one in sorted(files, key=lambda file: preference(file.path)):
        first = used.setdefault(one.key, one)
        if first is not one:
            name = "_".join(filter(None, one.key))
            problem = f"{name} already is {first.path.as_posix()}"
            problems.append(Problem(one.path.as_posix(), problem, f"nothing, or {NEEDED}"))
    return list(used.values()), problems


def _not_told(files: Sequence[File], tables: FolderTables) -> list[Problem]:
    """A line for what the tables do not say of files, and for rows without one."""
    problems = []
    assumed = sum(one.assumed for one in files)
    if assumed:
        share = f"{assumed} of {len(files)} files"
        problem = f"no table says who is who: {share} count as one participant each"
        problems.append(Problem("participants.tsv", problem, NEEDED))
    if tables.empty:
        return problems
    people = tables.people
    problems += [
        Problem(one.path.name, f"is not in {people.where}", "add a row for diagnosis, sex and age")
        for one in files
        if not one.rows and bare(one.key[0]) not in people.rows
    ]
    scanned = {bare(one.key[0]) for one in files}
    without_image = dict.fromkeys(name for name in people.listed if bare(name) not in scanned)
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
            "its name says that it is no T1 image",
            f"nothing; a brain mask is named <image>{MASK_ENDING}",
        )
        for path in nifti
        if is_other_kind(path, nifti) and not is_brain_mask(path)
    ]


def _other_formats(files: Sequence[Path]) -> list[Problem]:
    """A line for each image that is none of NIfTI's."""
    return [
        Problem(path.as_posix(), "is no NIfTI file", "convert it to .nii or .nii.gz")
        for path in files
        if path.suffix.lower() in OTHER_FORMATS
    ]
