"""A run folder from any participant is data: each of its files is checked as it is read.

`mutations` damages one file at a time; commands that read it report it in one line.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from made_run import make_run

from monai_vqbrain.documents import check_form, read_json
from monai_vqbrain.errors import UnexpectedError, VQBrainError
from monai_vqbrain.provenance import read_provenance, what_changed
from monai_vqbrain.runs.codes import code_items, code_shape, read_codes
from monai_vqbrain.runs.conditions import joint_conditions, prior_conditions, read_joint
from monai_vqbrain.runs.datalist import all_items, check_datalist
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.freshness import check_models
from monai_vqbrain.runs.geometry import sample_size
from monai_vqbrain.runs.networks import load_network
from monai_vqbrain.runs.participants import RunParticipants
from monai_vqbrain.runs.records import network_settings, slicing_options
from monai_vqbrain.runs.sample_sets import current_sets, read_samples
from monai_vqbrain.runs.splits import read_splits
from monai_vqbrain.runs.stacks import read_slices
from monai_vqbrain.runs.tables import read_slices_table
from monai_vqbrain.runs.training import report_training
from monai_vqbrain.stages.images.input_volume import SliceFrame
from monai_vqbrain.stages.reporting.summary import split_counts
from monai_vqbrain.transforms import LoadSliced

VALUES = [
    None, True, -1, 3.5, 1e308, float("inf"), 10**30, "", "x", "../../x", "/etc/passwd", [], {},
    [None], ["a"], {"a": 1},
]  # fmt: skip
CELLS = ["", "n/a", "x", "-1", "1e400", "99999999999999999999", "../../x", "0.5", '"', "=1"]


def readers(run: RunFolder) -> dict[str, Callable[[], Any]]:
    """Everything that reads files of a run."""

    def items() -> None:
        known = prior_conditions(run.path, "auto", views=True)
        code_items(run.path, "training", None, known, neighbour=True, views=True)
        joint_conditions(run.path, known)

    def slices() -> None:
        check_datalist(run.slices)
        LoadSliced()(all_items(run.slices)[0])
        read_slices(run, read_slices_table(run))

    def prior() -> None:
        network: Any = load_network(run.prior)
        read_joint(run.path, network.settings["conditions"])

    return {
        "slices": slices,
        "splits": lambda: read_splits(run.slices / "participants.tsv"),
        "participants": lambda: RunParticipants(run),
        "options": lambda: SliceFrame.of(slicing_options(run, *SliceFrame.OPTIONS)),
        "models": lambda: check_models(run),
        "vqvae": lambda: load_network(run.vqvae),
        "prior": prior,
        "codes": lambda: (read_codes(run), code_shape(run.path), sample_size(run.path)),
        "items": items,
        "samples": lambda: [read_samples(files) for files in current_sets(run).values()],
        "trainings": lambda: (report_training(run.vqvae), report_training(run.prior)),
        "counts": lambda: split_counts(run),
        "freshness": lambda: what_changed(run.codes, {}, {}),
    }


FILES = [
    "2-slices/provenance.json", "2-slices/datalist.json", "2-slices/slices.tsv",
    "2-slices/participants.tsv", "3-vqvae/config.json", "3-vqvae/provenance.json",
    "3-vqvae/metrics.tsv", "3-vqvae/model.pt", "4-codes/codes.tsv", "4-codes/codes.safetensors",
    "4-codes/provenance.json", "5-prior/config.json", "5-prior/conditions.json",
    "5-prior/provenance.json", "5-prior/metrics.tsv", "6-samples/default/provenance.json",
    "6-samples/default/sample-0001.nii.gz",
]  # fmt: skip


def damaged(content: bytes, ending: str, rng: random.Random) -> bytes:
    """A file's content with one thing wrong."""
    how = rng.random()
    if how < 0.2:
        return content[: rng.randrange(len(content))]
    if how < 0.4 or ending not in (".json", ".tsv"):
        changed = bytearray(content)
        for _ in range(rng.choice([1, 5])):
            changed[rng.randrange(min(len(content), 400))] = rng.randrange(256)
        return bytes(changed)
    if ending == ".json":
        value = json.loads(content)
        places = list(entries(value))
        holder, key = rng.choice(places)
        if rng.random() < 0.3:
            del holder[key]
        else:
            holder[key] = rng.choice(VALUES)
        return json.dumps(value).encode()
    rows = [line.split("\t") for line in content.decode().splitlines()]
    row = rng.choice(rows)
    row[rng.randrange(len(row))] = rng.choice(CELLS)
    return "\n".join("\t".join(row) for row in rows).encode()


def entries(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each place in a JSON value, as its holder and the key there."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(pairs)[:6]:
        yield value, key
        if isinstance(inner, dict | list):
            yield from entries(inner)


def message_of(reader: Callable[[], Any]) -> str:
    """What a reader says; any other exception than ours is raised."""
    try:
        reader()
    except UnexpectedError:
        raise
    except VQBrainError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_one_line_or_nothing(
    name: str, trained_run: Path, tmp_path: Path
) -> None:
    rng, run = random.Random(name), RunFolder(tmp_path / "run")
    shutil.copytree(trained_run, run.path)
    content = (run.path / name).read_bytes()
    for _ in range(2):
        (run.path / name).write_bytes(damaged(content, Path(name).suffix, rng))
        messages = [message_of(reader) for reader in readers(run).values()]
        assert not any("\n" in message for message in messages)


@pytest.mark.parametrize("reader", readers(RunFolder("x")))
def test_an_intact_run_is_read(reader: str, trained_run: Path) -> None:
    readers(RunFolder(trained_run))[reader]()


@pytest.mark.parametrize(
    ("name", "change", "reader", "words"),
    [
        ("2-slices/slices.tsv", ("\tstacks/", "\t../stacks/"), "slices", "stack ../stacks/"),
        ("2-slices/slices.tsv", ("_T1w.nii", "_T1w.nii.gz"), "slices", r"T1w.nii.gz\)"),
        ("2-slices/slices.tsv", ("\ttraining\t", "\ttrain\t"), "slices", "split train"),
        ("2-slices/slices.tsv", ("brain_fraction", "brain"), "slices", "no column brain_frac"),
        ("2-slices/datalist.json", ('"stacks/', '"/stacks/'), "slices", "image /stacks/"),
        ("2-slices/provenance.json", ('"spacing": 6.0', '"spacing": "6"'), "options", "spacing c"),
        ("2-slices/provenance.json", ('"spacing"', '"space?"'), "options", "has no spacing"),
        ("2-slices/participants.tsv", ("split", "set"), "splits", "which split each participant"),
        ("3-vqvae/config.json", ('"width": 8', '"width": 100000'), "vqvae", "another architect"),
        ("3-vqvae/config.json", ('"width": 8', '"width": 9999999'), "vqvae", "width is 9999999"),
        ("3-vqvae/config.json", ("BrainVQVAE", "os.system"), "vqvae", "the network os.system"),
        ("5-prior/conditions.json", ('"share": ', '"share": -'), "prior", "does not fit the pri"),
        ("5-prior/metrics.tsv", ("epoch", "epic"), "trainings", "metrics.tsv is damaged"),
    ],
)
def test_what_is_wrong_is_said(
    name: str,
    change: tuple[str, str],
    reader: str,
    words: str,
    trained_run: Path,
    tmp_path: Path,
) -> None:
    run = RunFolder(tmp_path / "run")
    shutil.copytree(trained_run, run.path)
    text = (run.path / name).read_text()
    assert change[0] in text
    (run.path / name).write_text(text.replace(*change))
    with pytest.raises(VQBrainError, match=words):
        readers(run)[reader]()


def test_a_damaged_record_makes_a_stage_again(tmp_path: Path) -> None:
    (tmp_path / "provenance.json").write_text("{}")
    wrong = "provenance.json is damaged or of an earlier version"
    assert what_changed(tmp_path, {}, {}) == wrong
    with pytest.raises(VQBrainError, match=r"damaged \(made_from is missing\): run its stage"):
        read_provenance(tmp_path)


def test_weights_that_repeat_one_number_are_refused(trained_run: Path, tmp_path: Path) -> None:
    shutil.copytree(trained_run / "3-vqvae", tmp_path / "3-vqvae")
    path = tmp_path / "3-vqvae" / "config.json"
    path.write_text(path.read_text().replace('"width": 8', '"width": 90000'))
    torch.save({"x": torch.zeros(1).expand(90_000)}, tmp_path / "3-vqvae" / "model.pt")
    with pytest.raises(VQBrainError, match="another architecture"):
        load_network(tmp_path / "3-vqvae")


@pytest.mark.parametrize("content", ["[" * 100_000, "\x00", '{"a": NaN', "1" * 5000])
def test_odd_json_is_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(VQBrainError, match="config.json is damaged"):
        network_settings(tmp_path)
    with pytest.raises(VQBrainError, match="is damaged"):
        read_json(tmp_path / "config.json", {})


@pytest.mark.parametrize(
    ("value", "form", "words"),
    [
        ({"a": [1, "x"]}, {"a": [int]}, r"a\[1\] cannot be 'x'"),
        ({"a": True}, {"a": int}, "a cannot be True"),
        ({"a": {"b": 1}}, {"a": {"b": str}}, "a.b cannot be 1"),
        ({"a": {}}, {"a": {"b": str}}, "a.b is missing"),
        ({"a": 1.5}, {str: int}, "a cannot be 1.5"),
        ([], {}, r"it must be an object, got \[\]"),
        ({"a": "z"}, {"a": {"x", "y"}}, "a cannot be 'z'"),
        ({"a": 1}, {"a": (None, str)}, "a cannot be 1"),
    ],
)
def test_another_form_is_said(value: Any, form: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_form(value, form)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[" * 100_000, "is damaged"),
        ('{"training": 5}', "training must be a list, got 5"),
        ('{"test": [{"participant_id": 1}]}', r"test\[0\].participant_id cannot be 1"),
    ],
)
def test_splits_are_not_counted_in_a_damaged_datalist(
    content: str, words: str, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run", prior=False)
    (run.slices / "datalist.json").write_text(content)
    with pytest.raises(VQBrainError, match=words):
        split_counts(run)
