"""Studies downloaded from LONI's archive: nested folders of NIfTI or DICOM, a collection CSV."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from monai_vqbrain.cohorts.bids import another_scan
from monai_vqbrain.cohorts.cohort import Cohort, Problem, Scan, visit_order
from monai_vqbrain.cohorts.collection import Collection, read_collection
from monai_vqbrain.cohorts.columns import Facts
from monai_vqbrain.cohorts.file_names import image_id, image_number
from monai_vqbrain.cohorts.names import is_dicom_name, is_nifti
from monai_vqbrain.cohorts.series_choice import Rank, is_t1, rank_of_series, reason
from monai_vqbrain.cohorts.walk import entries
from monai_vqbrain.errors import VQBrainError

TREE = ("", "*/", "*/*/")  # where the participants' folders may be below the source
DATE = "[12][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]_[0-9][0-9]_[0-9][0-9]_[0-9][0-9]*"
STEPS = ("gradwarp", "b1_correction", "n3", "scaled")  # ADNI's own preprocessing, in its order


@dataclass(frozen=True)
class Image:
    """One NIfTI file, or one folder of DICOM, with the data from its path.

    Args:
        path: the file, or the folder.
        participant: the participant's folder, in ADNI `NNN_S_NNNN`.
        series: the series' folder, e.g. `MPR__GradWarp__B1_Correction__N3__Scaled`.
        date: `YYYY-MM-DD`.
        image_id: the number at the end of the file's name; empty if there is none.
        files: of DICOM.
    """

    path: Path
    participant: str
    series: str
    date: str
    image_id: str
    files: tuple[Path, ...] = ()

    @property
    def study(self) -> Path:
        """The folder that holds the participants' folders, such as `ADNI`."""
        folder = self.path if self.files else self.path.parent
        return folder.parents[3]

    def rank(self) -> Rank:
        """As `rank_of_series`, the most processed before repeats; then by the highest image id."""
        *first, repeat, corrected = rank_of_series(self.series)
        steps = sum(step in self.series.lower() for step in STEPS)
        number = int(self.image_id or 0)
        processed = ("most processed", -steps)
        return (*first, processed, repeat, corrected, ("highest image id", -number))


def is_loni(source: Path) -> bool:
    """Whether the source has the folders <participant>/<series>/<date and time>."""
    return any(next(source.glob(f"{top}*/*/{DATE}"), None) for top in TREE)


def read_loni(
    source: Path, columns: Mapping[str, str] | None = None, table: Path | None = None
) -> Cohort:
    """Read a download from LONI's archive (ADNI, PPMI, AIBL ...) without opening an image.

    Rows of the collection CSV are matched to files by image id, with or without its leading I. T1
    series are recognised by their names; others are skipped and listed. Of several scans of one
    day the first by `Image.rank` is used.

    Args:
        source: the folder with the study's folder (`ADNI/`) and the CSV, or the study's folder.
        columns: role -> column, for columns without a usual name.
        table: the collection CSV to read instead of those beside the images.

    Returns:
        The cohort; a session is named by its date.

    Raises:
        VQBrainError: if there is no T1 series.
        UsageError: if a requested column does not exist.
    """
    images = list(_images(source))
    t1 = [image for image in images if is_t1(image.series)]
    if not t1:
        raise VQBrainError(_nothing(source, images))
    collection = read_collection([table] if table else _tables(source, images), columns)
    used, others = _one_each(source, t1, collection.subjects)
    problems = [
        *collection.problems,
        *others,
        *_other_series(images),
        *_not_joined([image for _, image in used], collection, source),
        *_without_file(images, collection),
        *_in_another_folder(used, source),
        *_in_several_studies(used),
    ]
    scans = [
        Scan(
            participant_id=subject,
            session_id=image.date,
            path=image.path,
            form="dicom" if image.files else "nifti",
            files=image.files,
            source=image.path.relative_to(source).as_posix(),
            **vars(collection.facts.get(image.image_id, Facts())),
        )
        for subject, image in used
    ]
    return Cohort(
        root=source,
        layout="loni",
        scans=tuple(sorted(scans, key=visit_order)),
        problems=tuple(problems),
        columns=collection.columns,
    )


def _images(source: Path) -> Iterable[Image]:
    """The images in <participant>/<series>/<date>/<leaf>/<file>."""
    for top in TREE:
        for leaf in sorted(source.glob(f"{top}*/*/{DATE}/*")):
            files = entries(leaf)
            dicom = tuple(file for file in files if is_dicom_name(file))
            for path in [file for file in files if is_nifti(file)] or [leaf] * bool(dicom):
                participant, series, date = leaf.parts[-4:-1]
                name = Path(dicom[0].stem) if path == leaf else path
                in_leaf = image_id(leaf.name) if leaf.name.startswith("I") else ""
                number = image_number(name) or in_leaf
                of_leaf = dicom if path == leaf else ()
                yield Image(path, participant, series, date[:10], number, of_leaf)


def _nothing(source: Path, images: list[Image]) -> str:
    if images:
        names = ", ".join(sorted({image.series for image in images}))
        return f"{source} has no T1 series, only {names}"
    return f"{source} has no NIfTI or DICOM in <participant>/<series>/<date>/<image>/"


def _tables(source: Path, images: Iterable[Image]) -> list[Path]:
    """The CSVs in the source and beside each study's folder."""
    studies = {image.study for image in images}
    above = {source.resolve().parent if study == source else study.parent for study in studies}
    places = [source, *sorted(above - {source})]
    return [path for place in places for path in sorted(place.glob("*.csv"))]


def _one_each(
    source: Path, images: list[Image], subjects: Mapping[str, str]
) -> tuple[list[tuple[str, Image]], list[Problem]]:
    used: dict[tuple[str, str], Image] = {}
    problems = []
    for image in sorted(images, key=lambda one: [value for _, value in one.rank()]):
        key = (subjects.get(image.image_id) or image.participant, image.date)
        first = used.setdefault(key, image)
        if first is not image:
            why = reason(first.rank(), image.rank(), "first by name")
            problems.append(
                another_scan(image.path.relative_to(source), first.path.relative_to(source), why)
            )
    return [(subject, image) for (subject, _), image in used.items()], problems


def _other_series(images: list[Image]) -> list[Problem]:
    series = Counter(image.series for image in images if not is_t1(image.series))
    return [
        Problem(name, f"not a T1 series, skipped ({count} images)", "nothing")
        for name, count in sorted(series.items())
    ]


def _not_joined(images: list[Image], collection: Collection, source: Path) -> list[Problem]:
    if not collection.facts:
        return [
            Problem(
                "*.csv",
                "no collection CSV (Image Data ID, Subject, Group, Sex, Age) beside the study",
                "download it with the images; until then diagnosis, sex and age are missing",
            )
        ]
    return [
        Problem(
            image.path.relative_to(source).as_posix(),
            "its image id is not in the collection CSV",
            "add the CSV of that download; until then diagnosis, sex and age are missing",
        )
        for image in images
        if image.image_id not in collection.facts
    ]


def _without_file(images: list[Image], collection: Collection) -> list[Problem]:
    here = {image.image_id for image in images}
    return [
        Problem(f"I{number}", "is in the collection CSV but has no file", "download it again")
        for number in sorted(collection.facts.keys() - here, key=int)
    ]


def _in_another_folder(used: Iterable[tuple[str, Image]], source: Path) -> list[Problem]:
    return [
        Problem(
            image.path.relative_to(source).as_posix(),
            f"is in the folder of {image.participant}, but of {subject} by the collection CSV",
            "check the download; the CSV is used",
        )
        for subject, image in used
        if subject != image.participant
    ]


def _in_several_studies(used: Iterable[tuple[str, Image]]) -> list[Problem]:
    studies: dict[str, set[str]] = defaultdict(set)
    for subject, image in used:
        studies[subject].add(image.study.name)
    return [
        Problem(
            subject,
            f"is in several studies ({', '.join(sorted(names))}), treated as one participant",
            "prepare the studies separately if they are two participants",
        )
        for subject, names in studies.items()
        if len(names) > 1
    ]
