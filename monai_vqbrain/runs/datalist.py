"""MONAI's datalist of a run: the items that training, encoding and evaluation read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.data import load_decathlon_datalist

from monai_vqbrain.cohorts import SPLITS, check_splits
from monai_vqbrain.documents import read_json
from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.runs.folder import MIN_BRAIN_FRACTION
from monai_vqbrain.runs.stacks import mask_path, open_stack
from monai_vqbrain.runs.tables import is_inside
from monai_vqbrain.runs.views import MAX_VIEWS, slice_views
from monai_vqbrain.selection import thin_out

ITEM = {
    "image": str,
    "label": str,
    "index": int,
    "participant_id": str,
    "session_id": str,
    "axis": str,
    "position_mm": (None, float),
    "position_rel": (None, float),
    "diagnosis": (None, str),
    "age": (None, float),
    "sex": (None, str),
}


def make_datalist(rows: Sequence[Mapping[str, Any]], description: str) -> dict[str, Any]:
    """MONAI's datalist of the slices that hold enough brain.

    Args:
        rows: the result of `slice_rows`.
        description: one sentence on the data.

    Returns:
        What `monai.data.load_decathlon_datalist` reads, with the keys training, validation, test.

    Raises:
        VQBrainError: if a participant is in two splits.
    """
    used = [row for row in rows if row["brain_fraction"] >= MIN_BRAIN_FRACTION]
    check_splits((row["participant_id"], row["split"]) for row in used)
    lists = {split: [_item(row) for row in used if row["split"] == split] for split in SPLITS}
    return {"name": "slices", "description": description, **lists}


def _item(row: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("index", "participant_id", "session_id", "axis", "position_mm", "position_rel")
    stack = Path(row["stack"])
    return {
        "image": stack.as_posix(),
        "label": mask_path(stack).as_posix(),
        **{key: row[key] for key in (*kept, "diagnosis", "age", "sex")},
        "session_id": row["session_id"] or "n/a",  # a batch of names cannot hold a null
    }


def slice_items(
    dataset_dir: Path | str, split: str, most: int | None = None
) -> list[dict[str, Any]]:
    """The items of one split of a datalist, thinned out evenly to `most`.

    Raises:
        VQBrainError: if the datalist is missing or the split is empty.
    """
    path = Path(dataset_dir) / "datalist.json"
    if not path.is_file():
        raise VQBrainError(f"{path} is not there: first run vqbrain prepare SOURCE RUN")
    items = read_json(path, {f"{split}?": [{}]}).get(split)
    if not items:  # MONAI's reader would raise an IndexError
        raise VQBrainError(f"{path} has no {split} slices: prepare at least three participants")
    return thin_out(load_decathlon_datalist(str(path), True, split), most)


def check_datalist(dataset_dir: Path | str) -> None:
    """Refuse a datalist with items that cannot be loaded, or that lie elsewhere.

    Raises:
        VQBrainError: naming the first such item, or the participants that are in two splits.
    """
    path = Path(dataset_dir) / "datalist.json"
    if not path.is_file():
        return
    datalist = read_json(path, {f"{split}?": [ITEM] for split in SPLITS})
    items = [(split, item) for split in SPLITS for item in datalist.get(split, ())]
    for _, item in items:
        if not (is_inside(item["image"]) and is_inside(item["label"]) and item["index"] >= 0):
            raise VQBrainError(
                f"{path} is damaged (image {item['image']}, index {item['index']}): "
                "run its stage again"
            )
    check_splits((item["participant_id"], split) for split, item in items)


def check_sizes(dataset_dir: Path | str) -> None:
    """Refuse slices of several sizes, of which no batch can be made.

    Raises:
        VQBrainError: if stacks differ in width or height, or one cannot be read.
    """
    folder = Path(dataset_dir)
    stacks = sorted({item["image"] for item in all_items(folder)})
    sizes = {open_stack(Path(stack)).shape[:2]: stack for stack in stacks}
    if len(sizes) > 1:
        (one, first), (other, second), *_ = sizes.items()
        raise VQBrainError(
            f"{folder}: slices differ in size ({one[0]}x{one[1]} pixels in {Path(first).name}, "
            f"{other[0]}x{other[1]} in {Path(second).name}): run its stage again"
        )


def all_items(dataset_dir: Path | str) -> list[dict[str, Any]]:
    """The items of all splits that have any: training, validation, test.

    Two participants fill two splits only; there must be training items.
    """
    path = Path(dataset_dir) / "datalist.json"
    lists = read_json(path, {}) if path.is_file() else {}
    filled = [split for split in SPLITS if split == "training" or lists.get(split)]
    return [item for split in filled for item in slice_items(dataset_dir, split)]


def view_items(dataset_dir: Path | str, most: int = 16_000) -> list[dict[str, Any]]:
    """Shifted views of the training items (augmentation), for `ViewSliced`.

    A shift of two pixels changes the code at every position.

    Args:
        dataset_dir: the folder of datalist.json.
        most: maximum number of items; there is at least one view of every training item.

    Returns:
        All items of the first view, then of the second, ...; `view` numbers the views from 0.
    """
    items = slice_items(dataset_dir, "training")
    number = max(1, min(MAX_VIEWS, most // len(items)))
    return [item | view for view in slice_views(number) for item in items]


def whole_batches(items: Sequence[Any], batch_size: int) -> list[Any]:
    """The items, with the last one repeated until all batches are full.

    Float32 sums depend on the batch size. With full batches only, the result for a slice does not
    depend on the number of slices.
    """
    missing = -len(items) % batch_size
    return [*items, *[items[-1]] * missing]
