"""The page on TensorBoard and MLflow lists the curves that trainings write."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

PAGE = Path(__file__).parents[1] / "docs" / "tracking.md"


def listed(network: str, unit: str) -> set[str]:
    """The curves of a network in the page's table that have one value per `unit`."""
    rows = re.findall(r"^\| (`.+`) \| ([^|]+) \| ([^|]+) \|", PAGE.read_text(), re.MULTILINE)
    names = [names for names, per, of in rows if (per, of) == (unit, network)]
    return set(re.findall(r"`(\w+)`", " ".join(names)))


@pytest.mark.parametrize(("folder", "network"), [("3-vqvae", "VQ-VAE"), ("5-prior", "prior")])
def test_the_page_lists_all_curves(trained_run: Path, folder: str, network: str) -> None:
    written: set[str] = set()
    for file in (trained_run / folder).glob("events.out.tfevents.*"):
        events = EventAccumulator(str(file))
        events.Reload()
        written |= set(events.Tags()["scalars"])
    assert listed(network, "epoch") <= written
    # the losses of this short training may be too few to be written
    assert written <= listed(network, "epoch") | listed(network, "20 steps")
    header = (trained_run / folder / "metrics.tsv").read_text().splitlines()[0].split("\t")
    losses = {name for name in header if name.startswith("loss")}
    assert {name.removeprefix("train_") for name in listed(network, "20 steps")} == losses
