"""Participant, session and kind of image from the names of files in a plain folder."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from monai_vqbrain.cohorts.names import BidsName, parse_name, stem
from monai_vqbrain.cohorts.series_choice import names_t1

MASK_ENDING = "_desc-brain_mask"
LABELS = re.compile(  # of a word in a name: masks, label maps, segmentations
    r"(.*(mask|labels?|labelmap|segmentation|parcellation)s?|[dap]?seg|(prob|pve)seg|pve|parc"
    r"|aparc|aparc\+aseg|wmparc|ribbon|hypointensities)\d*"
)
AT_THE_END = re.compile(r"(rois?|lesions?|tissues?|gm|wm|csf)\d*")  # of the last word
OTHERS = re.compile(  # of a word in a name: other contrasts
    r"flair|t2|t2w|t2star|pdw|swi|bold|asl|dwi|dti|adc|fmap|localizer|scout"
)
SPM_TISSUE = re.compile(r"(m?w|r|u)?c[1-6](?=.)")  # SPM writes c1NAME beside NAME


def is_brain_mask(path: Path) -> bool:
    """Whether the name is that of a brain mask of another file."""
    return stem(path).endswith(MASK_ENDING)


def is_other_kind(path: Path, files: Iterable[Path] = ()) -> bool:
    """Whether a file is a mask, label map, segmentation or another contrast, by its name.

    Args:
        path: a file.
        files: all files, to recognise SPM's tissue maps by the names of their images.

    Example:
        >>> names = ("p1.nii", "p1_mask.nii", "p1_T1_dseg.nii", "p1_FLAIR.nii", "p1_T1_to_T2.nii")
        >>> [is_other_kind(Path(name)) for name in names]
        [False, True, True, True, False]
    """
    name = parse_name(path)
    if name is not None:
        return name.suffix.lower() != "t1w"
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", stem(path))  # brainMask
    words = [word for word in re.split(r"[^\w+]|_", apart.lower()) if not word.isdigit()]
    if any(map(LABELS.fullmatch, words)) or (words and AT_THE_END.fullmatch(words[-1])):
        return True
    if any(map(OTHERS.fullmatch, words)) and not names_t1(stem(path)):
        return True
    tissue = SPM_TISSUE.match(path.name)
    return tissue is not None and path.with_name(path.name[tissue.end() :]) in set(files)


def plain(path: Path) -> str:
    """`IXI013_T1w.nii.gz` as `IXI013`."""
    return re.sub("_t1w$", "", stem(path), flags=re.IGNORECASE)


def image_number(path: Path) -> str:
    """The image id at the end of a file name of LONI's archive, `..._I45108.nii`: 45108."""
    found = re.search(r"_I(\d+)$", stem(path))
    return image_id(found.group(1)) if found else ""


def image_id(text: str) -> str:
    """An image id of LONI's archive without its letter: 45108 for `I45108` and 45108."""
    found = re.fullmatch(r"[ID]?(\d+)", text.strip(), re.IGNORECASE)
    return str(int(found.group(1))) if found else ""


def loose_name(path: Path) -> BidsName | None:
    """Parse a name like those of BIDS, with any characters in its labels; None if it is not one.

    Example:
        >>> loose_name(Path("sub-002_S_0295_ses-M00_T1w.nii"))
        BidsName(entities={'sub': '002_S_0295', 'ses': 'M00'}, suffix='T1w')
    """
    *parts, suffix = stem(path).split("_")
    entities: dict[str, str] = {}
    last = ""
    for part in parts:
        key, dash, label = part.partition("-")
        if dash and key.isalpha() and key.islower():
            entities[key], last = label, key
        elif last:  # the label continues
            entities[last] += f"_{part}"
        else:
            return None
    return BidsName(entities, suffix) if next(iter(entities), "") == "sub" and suffix else None


def participants_by_name(images: Sequence[Path]) -> tuple[dict[Path, tuple[str, str]], list[Path]]:
    """Participant and session of each file by its name.

    Names that are not BIDS names and repeat, as in `p1/T1.nii`, `p2/T1.nii`, are replaced by the
    names of their folders, unless there are more names than folders.

    Args:
        images: the files, relative to the source.

    Returns:
        (participant, session) of each file, and the files that are assumed to be one participant
        each, since their names could also be those of visits.
    """
    found: dict[Path, tuple[str, str]] = {}
    unnamed: list[Path] = []
    folders: dict[str, set[Path]] = defaultdict(set)
    for path in images:
        name = parse_name(path) or loose_name(path)
        if name is not None:
            found[path] = name.participant_id, name.session_id
        else:
            unnamed.append(path)
            folders[plain(path)].add(path.parent)
    repeat = any(len(places) > 1 for places in folders.values())
    places = {path.parent for path in unnamed if path.parent.parts}
    by_folder = repeat and len(places) >= len(
        folders
    )  # else folders distinguish fewer participants
    for path in unnamed:
        found[path] = ("_".join(path.parent.parts) * by_folder or plain(path)), ""
    return found, unnamed


def preference(path: Path) -> tuple[int, str]:
    """A key that sorts the file of a session to use first: the plainest name, then the first."""
    name = parse_name(path) or loose_name(path)
    return (len(name.entities) if name else 0), path.as_posix()
