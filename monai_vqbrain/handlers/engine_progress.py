"""The progress bar of an evaluator."""

from __future__ import annotations

from ignite.handlers import ProgressBar

from monai_vqbrain.progress import Bar


class EngineProgress(ProgressBar):
    """ignite's ProgressBar in tqdm's own form: count, time, time left and rate.

    If standard error is no terminal, each state is a line of its own.

    Args:
        desc: the label of the bar.
        unit: one iteration, such as "batch".
    """

    def __init__(self, desc: str, unit: str = "batch") -> None:
        super().__init__(persist=True, bar_format=None, desc=desc, unit=unit)
        self.pbar_cls = Bar
