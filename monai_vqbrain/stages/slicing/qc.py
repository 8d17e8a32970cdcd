"""Visual quality control of all scans, outliers first: qc/index.html and qc/qc.tsv."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from scipy.stats import median_abs_deviation

from monai_vqbrain.files import writing
from monai_vqbrain.progress import progress
from monai_vqbrain.stages.reporting.pages import page
from monai_vqbrain.stages.slicing.montage import outlined_slices
from monai_vqbrain.stages.slicing.scan_slices import SlicedScan
from monai_vqbrain.tables import write_table

MEASURES = {
    "brain_ml": "brain, ml",
    "height_mm": "extent of the brain across the slices, mm",
    "shift_mm": "offset of the brain's middle from the template's, across the slices, mm",
    "alignment": "correlation with the template",
    "area_percent": "share of brain in the slices, %",
    "brightness": "mean intensity in the brain, 0 to 1",
    "contrast": "standard deviation of intensity in the brain",
}
TILES, PIXELS = 8, 64  # slices of a mosaic, and the longer side of each
QUALITY = 75  # of the mosaic's JPEG


def write_qc(sliced: Sequence[SlicedScan], folder: Path, qc: Path) -> pd.DataFrame:
    """Write the page and the table.

    A scan's outlier score is the largest distance of its measures from the cohort's median, in
    robust standard deviations (1.4826 times the median absolute deviation).

    Args:
        sliced: the scans that have slices.
        folder: the slices' folder, which contains their stacks.
        qc: the folder to write to.

    Returns:
        The table: one row per scan, outliers first.
    """
    table = pd.DataFrame([_qc_row(one) for one in sliced])
    distances = pd.DataFrame({name: robust_distance(table[name]) for name in MEASURES})
    table["score"] = distances.max(axis=1).fillna(0.0)
    table["odd"] = distances.fillna(-1.0).idxmax(axis=1).where(table["score"] > 0)
    table = table.sort_values("score", ascending=False, kind="stable")
    shown = table.round(dict.fromkeys((*MEASURES, "score"), 4))
    write_table(shown, qc / "qc.tsv")
    rows = list(zip(table.index, table.to_dict("records"), strict=True))
    scans = [
        row | _mosaic(folder / sliced[index].slices[0]["stack"])
        for index, row in progress(rows, "quality control", unit="volume")
    ]
    known = {name: words for name, words in MEASURES.items() if table[name].notna().any()}
    html = page("qc.html.j2", {"scans": scans, "measures": known})
    with writing(qc / "index.html") as path:
        path.write_text(html, encoding="utf-8")
    return table


def robust_distance(values: pd.Series) -> np.ndarray:
    """Distance of each value from the median in robust standard deviations; NaN stays NaN.

    Args:
        values: (N,) one measure of N scans.

    Returns:
        (N,) distances, at least 0.

    Example:
        >>> robust_distance(pd.Series([1.0, 2.0, 3.0, 10.0])).round(2).tolist()
        [1.01, 0.34, 0.34, 5.06]
    """
    numbers = values.to_numpy(dtype=float)
    if not np.isfinite(numbers).any():
        return numbers
    spread = median_abs_deviation(numbers, nan_policy="omit", scale=1 / 1.4826)
    distance = np.abs(numbers - np.nanmedian(numbers))
    return distance / spread if spread > 0 else np.where(np.isnan(distance), np.nan, 0.0)


def _qc_row(sliced: SlicedScan) -> dict[str, Any]:
    scan = sliced.scan
    known = {name: sliced.measures.get(name, np.nan) for name in MEASURES}
    return {
        "scan": scan.name,
        "participant_id": scan.participant_id,
        "session_id": scan.session_id or None,
        "source": scan.source,
        **known,
    }


def _mosaic(stack: Path) -> dict[str, Any]:
    """A row of slices with the outlines of their brain masks: a JPEG as a data URI, and its size.

    With its size the page has room for it before it is shown: else keys scroll to a wrong place.
    """
    row = outlined_slices(stack, TILES, PIXELS)
    file = io.BytesIO()
    picture = Image.fromarray(np.rint(255 * row).astype(np.uint8))
    picture.save(file, "JPEG", quality=QUALITY, subsampling=0)  # else thin outlines blur
    uri = "data:image/jpeg;base64," + b64encode(file.getvalue()).decode()
    return {"mosaic": uri, "width": picture.width, "height": picture.height}
