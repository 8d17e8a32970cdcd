"""Outputs of evaluations: scores, codes, pictures."""

from __future__ import annotations

import io
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import pandas as pd
import torch
from ignite.engine import Engine, Events
from PIL import Image

from monai_vqbrain.files import writing
from monai_vqbrain.handlers.batch import as_batch
from monai_vqbrain.metrics.fidelity import slice_scores
from monai_vqbrain.ranks import this_rank
from monai_vqbrain.tables import SLICE_KEYS, write_table


class SliceTable:
    """Writes a table with one row per slice of an evaluation; a subclass adds columns.

    Rank 0 writes the slices of all ranks, one row for a slice that several ranks had.

    Args:
        path: the table (tab-separated): participant_id, session_id, axis, index and the columns.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def columns(self, output: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """Name -> (B,) values of one batch's output."""
        raise NotImplementedError

    def _start(self, engine: Engine) -> None:
        # not as tables, whose arrays would lie between the images of batches and leave holes
        self.rows: list[dict[Hashable, Any]] = []

    def _add(self, engine: Engine) -> None:
        output = as_batch(engine.state.output)
        rows = pd.DataFrame({key: list(np.asarray(output[key])) for key in SLICE_KEYS})
        for name, values in self.columns(output).items():
            rows[name] = values.cpu().numpy()
        self.rows += rows.to_dict("records")

    def _write(self, engine: Engine) -> None:
        shards: Any = idist.all_gather(self.rows)
        if this_rank() != 0:
            return
        rows = pd.DataFrame([row for shard in shards for row in shard])
        write_table(rows.drop_duplicates(list(SLICE_KEYS)), self.path, digits=6)


class SliceScores(SliceTable):
    """Writes the scores of `slice_scores` for each slice of a VQVAEEvaluator."""

    def columns(self, output: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """The scores of each slice, (B,)."""
        mask = output["mask"].to(output["pred"].device)
        return slice_scores(output["pred"], output["image"], mask)


class CodeBits(SliceTable):
    """Writes the bits of each code grid of a PriorEvaluator."""

    def columns(self, output: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """Bits of each grid, (B,): `bits` and, given the previous slice, `bits_after`."""
        names = [name for name in ("bits", "bits_after") if name in output]
        return {name: output[name].flatten(1).double().sum(1) for name in names}


class CollectCodes:
    """Collects the codes of a VQVAEEvaluator, in the order of the data set.

    Nothing is gathered from other ranks, since the order of their slices is not known: give every
    rank the whole data set. Codes are kept as small as they are stored, 2 bytes each below 65,536.

    Args:
        count: number of code grids to keep; the last batch may be filled up with repeats.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)

    def _start(self, engine: Engine) -> None:
        self._codes, self._filled = np.empty(0, np.uint16), 0

    def _add(self, engine: Engine) -> None:
        batch = as_batch(engine.state.output)["codes"].cpu().numpy()[: self.count - self._filled]
        if not self._filled:
            self._codes = np.empty((self.count, *batch.shape[1:]), np.uint16)
        if batch.max(initial=0) > np.iinfo(self._codes.dtype).max:
            self._codes = self._codes.astype(np.int32)
        self._codes[self._filled : self._filled + len(batch)] = batch
        self._filled += len(batch)

    def codes(self) -> torch.Tensor:
        """All codes so far, (N, *grid) uint16 or, of a larger codebook, int32; 0..K-1."""
        return torch.from_numpy(self._codes[: self._filled])


class ImagePanel:
    """Draws slices above their reconstructions and the differences, as one PNG.

    Slices are evenly spaced in the data set or, with several ranks, in the part of rank 0.

    Args:
        path: the PNG file, overwritten at every evaluation.
        columns: number of slices.
    """

    def __init__(self, path: Path | str, columns: int = 6) -> None:
        self.path = Path(path)
        self.columns = columns

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _start(self, engine: Engine) -> None:
        self._pairs: list[tuple[np.ndarray, np.ndarray]] = []

    def _add(self, engine: Engine) -> None:
        output = as_batch(engine.state.output)
        batches = engine.state.epoch_length or 1
        wanted = np.linspace(0, batches - 1, min(self.columns, batches)).astype(int).tolist()
        number = (engine.state.iteration - 1) % batches
        if number not in wanted:
            return
        batch = torch.cat((output["image"], output["pred"]), dim=1).clamp(0, 1).float()
        most = min(-(-self.columns // batches), len(batch))
        spread = torch.linspace(0, len(batch) - 1, most).long()
        if most == 1:  # a batch may be one participant's slices, in order of position
            share = wanted.index(number) / max(1, len(wanted) - 1)
            spread = torch.tensor([round(share * (len(batch) - 1))])
        self._pairs += [(pair[0], pair[1]) for pair in batch[spread.to(batch.device)].cpu().numpy()]

    def _write(self, engine: Engine) -> None:
        if this_rank() != 0:
            return
        chosen = np.linspace(0, len(self._pairs) - 1, min(self.columns, len(self._pairs)))
        pairs = [self._pairs[round(i)] for i in chosen]
        panel = panel_of([p[0] for p in pairs], [p[1] for p in pairs])
        with writing(self.path) as temporary:
            temporary.write_bytes(png_bytes(panel))


def panel_of(images: Sequence[np.ndarray], predictions: Sequence[np.ndarray]) -> np.ndarray:
    """A picture of three rows: images, reconstructions, and 0.5 + 2 x their differences.

    Args:
        images: each (W, H) in [0, 1], x first.
        predictions: the reconstructions, of the same number and size.

    Returns:
        (rows, columns) in [0, 1], anterior at the top.
    """
    differences = [0.5 + 2 * (p - i) for i, p in zip(images, predictions, strict=True)]
    rows = [np.hstack([np.rot90(a) for a in row]) for row in (images, predictions, differences)]
    return np.clip(np.vstack(rows), 0, 1)


def png_bytes(picture: np.ndarray) -> bytes:
    """A grey PNG of a picture (rows, columns) in [0, 1]."""
    buffer = io.BytesIO()
    Image.fromarray(np.rint(255 * picture).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()
