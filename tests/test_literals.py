"""Values of tables and run folders pass through MONAI's configurations as data."""

from __future__ import annotations

import json
import math
import shlex
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fire.parser import DefaultParseValue
from made_run import finish_again
from monai.bundle import ConfigParser

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.runs.bundles import bundle_command, bundle_root, run_bundle
from monai_vqbrain.runs.literals import as_data
from monai_vqbrain.stages.sample import SampleOptions, draw_samples

VALUES = [
    "$1/0", "$import os", "@x", "@", "%x", "%/etc/passwd#x", "a#b", "a@#b@##c", "$", "#", "'\"\\$",
    "line\nend$", "é€#", "::", "plain", "", "None", "AD", 3, None, True, 0.5,
    ["$1/0", 1], {"diagnosis": "$1/0"}, {"_target_": "os.getcwd"}, {"$x": [{"y": "@z"}]},
    {"a": {"_target_": "os.getcwd"}, "b": -math.inf}, {}, [], {"_disabled_": True},
]  # fmt: skip


def resolved(value: Any) -> Any:
    """What a component or expression gets that refers to an id with this value."""
    parser = ConfigParser({"x": value, "y": "$@x", "z": {"_target_": "builtins.list"}})
    return parser.get_parsed_content("y")


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_out_as_it_went_in(value: Any) -> None:
    assert resolved(as_data(value)) == value


@pytest.mark.parametrize("value", [*VALUES, "123", "1e3", "[1, 2]", "True", "'x'"], ids=repr)
def test_a_value_survives_the_words_of_monais_command(value: Any) -> None:
    words = shlex.split(bundle_command("pixelcnn", "inference", {"condition": {}, "name": value}))
    assert words[-2] == "--name"
    assert resolved(DefaultParseValue(words[-1])) == value


def test_an_id_of_a_bundle_is_never_evaluated(trained_run: Path, tmp_path: Path) -> None:
    code = f"$__import__('pathlib').Path({str(tmp_path / 'ran')!r}).touch()"
    ids = {"run_dir": str(trained_run), "output_dir": str(tmp_path), "split": code}
    with pytest.raises(VQBrainError, match="has no .*__import__.* slices"):
        run_bundle("vqvae", "evaluate", ids)
    assert not (tmp_path / "ran").exists()


def test_a_diagnosis_that_looks_like_code_is_sampled_and_not_run(
    trained_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    code = f"$__import__('pathlib').Path({str(tmp_path / 'ran')!r}).touch()"
    for name in ("config.json", "conditions.json"):  # as if a participants.tsv had said so
        path = run / "5-prior" / name
        path.write_text(path.read_text().replace('"CN"', json.dumps(code)))
    finish_again(run / "5-prior")
    draw_samples(run, SampleOptions(number=1, condition={"diagnosis": code}))
    assert not (tmp_path / "ran").exists()
    table = pd.read_csv(run / "6-samples" / "default" / "samples.tsv", sep="\t")
    assert table["condition"][0].startswith(f"diagnosis={code}")


@pytest.mark.parametrize("content", ["{", "[]", "\udcff", '{"name": "vqbrain_pixelcnn"}'])
def test_a_folder_with_other_metadata_is_no_bundle_root(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "metadata.json").write_text(content, errors="surrogateescape")
    monkeypatch.chdir(tmp_path)
    assert Path(bundle_root("vqvae")).name == "vqvae"
