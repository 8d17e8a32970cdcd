"""The bundles by the model zoo's own checks, and the ways to run them."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, tiny_vqvae
from ignite.engine import Engine
from monai.bundle import (
    ComponentLocator,
    ConfigParser,
    ConfigWorkflow,
    ckpt_export,
    load,
    verify_metadata,
    verify_net_in_out,
)

from monai_vqbrain import components, progress
from monai_vqbrain.errors import UsageError, VQBrainError
from monai_vqbrain.runs import bundles as bundle
from monai_vqbrain.runs.folder import RunFolder
from monai_vqbrain.runs.overrides import check_overrides
from monai_vqbrain.stages.encode import encode
from monai_vqbrain.stages.train import (
    BUNDLE,
    PROVENANCE,
    TrainOptions,
    train,
    training_command,
    training_ids,
)

BUNDLES = ("vqvae", "pixelcnn")
TYPED = "bundles/vqvae/train.json"  # the file as the README names it
CONFIGS = ("train", "evaluate", "inference")


def config_file(name: str, config: str) -> str:
    return str(bundle.bundle_folder(name) / "configs" / f"{config}.json")


@pytest.fixture(scope="session")
def meta_schema(shared_data: Path) -> Path:
    path = shared_data.parent / "zoo" / "meta_schema_20240725.json"
    if not path.is_file():
        pytest.skip(f"the model zoo's metadata schema is not at {path}")
    return path


@pytest.mark.parametrize("name", BUNDLES)
def test_metadata_keeps_to_the_zoos_schema(name: str, meta_schema: Path) -> None:
    verify_metadata(meta_file=config_file(name, "metadata"), filepath=str(meta_schema))


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("name", BUNDLES)
def test_network_in_and_out(name: str, config: str) -> None:
    verify_net_in_out(
        net_id="network_def",
        meta_file=config_file(name, "metadata"),
        config_file=config_file(name, config),
        device="cpu",
    )


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("name", BUNDLES)
def test_no_property_is_missing(name: str, config: str, trained_run: Path, tmp_path: Path) -> None:
    workflow = ConfigWorkflow(
        config_file=config_file(name, config),
        meta_file=config_file(name, "metadata"),
        workflow_type="train" if config == "train" else "infer",
        run_dir=str(trained_run),
        work_dir=str(tmp_path),
    )
    workflow.initialize()
    assert workflow.check_properties() == []


OPTIONS = {
    "amp", "average", "batch_size", "budget", "checkpoint", "early_stopping", "ema", "loss",
    "max_epochs", "metrics_table", "minutes", "mlflow", "mlflow_run", "optimizer", "patience",
    "publication", "seeding", "tensorboard", "val_interval", "validation",
    "validation_tensorboard",
}  # fmt: skip


@pytest.mark.parametrize("name", BUNDLES)
def test_both_trainings_have_the_same_options(name: str) -> None:
    assert json.loads(Path(config_file(name, "train")).read_text()).keys() >= OPTIONS


@pytest.mark.parametrize("network", ["vqvae", "prior"])
def test_the_bundles_own_defaults_are_those_of_the_command(network: str, tmp_path: Path) -> None:
    ids = training_ids(RunFolder(tmp_path), network, TrainOptions())
    config = json.loads(Path(config_file(BUNDLE[network], "train")).read_text())
    assert config["overrides"] is None  # what MONAI's command line overrides is not known to it
    same = set(PROVENANCE) - {"overrides"}
    assert {key: config[key] for key in same} == {key: ids[key] for key in same}


LISTS = ("handlers", "+handlers")
FILES = [
    ("vqvae", "encode"),
    *((name, config) for name in BUNDLES for config in CONFIGS),
    ("vqvae", "vqgan"),
    ("vqvae", "perceptual"),
]


@pytest.mark.parametrize(("name", "config"), FILES)
def test_objects_have_names_and_lists_refer_to_them(name: str, config: str) -> None:
    text = Path(config_file(name, config)).read_text()
    assert not re.search(r"#\d", text), "something is addressed by its position in a list"
    parsed = json.loads(text)
    groups = (parsed, parsed.get("train", {}), parsed.get("validate", {}))
    listed = [group.get(key, []) for group in groups for key in LISTS]
    for entry in (e for entries in listed for e in entries):
        assert isinstance(entry, str), f"{entry} has no id of its own"
        assert entry.removeprefix("@") in parsed or config not in CONFIGS


@pytest.mark.parametrize("name", BUNDLES)
def test_the_publication_is_attached_last_and_nothing_disabled_is(
    name: str, trained_run: Path, tmp_path: Path
) -> None:
    parser = ConfigParser()
    parser.read_config(config_file(name, "train"))
    parser.update({"run_dir": str(trained_run), "work_dir": str(tmp_path)})
    handlers = parser.get_parsed_content("train#trainer#train_handlers")
    attached = [handler for handler in handlers if handler is not None]  # as the trainer does
    assert attached[-1] is parser.get_parsed_content("publication")
    assert parser.get_parsed_content("average") is None
    assert parser.get_parsed_content("mlflow_run") is None
    assert len(attached) == len(parser["handlers"]) - 2 + 1  # without average and mlflow_run


@pytest.mark.parametrize(
    ("name", "config", "what"),
    [
        ("vqvae", "evaluate", "score slices"),
        ("vqvae", "encode", "encode"),
        ("vqvae", "inference", "reconstruct"),
        ("pixelcnn", "evaluate", "score codes"),
        ("pixelcnn", "inference", "sample"),
    ],
)
def test_a_bar_shows_what_how_far_and_the_time_left(
    name: str, config: str, what: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(progress, "LOG_EVERY", 0.0)
    parser = ConfigParser()
    parser.read_config(config_file(name, config))
    parser["dataset"] = [0, 1]  # the bar over a single batch of samples is the sampler's own
    engine = Engine(lambda *_: None)
    parser.get_parsed_content("progress").attach(engine)
    engine.run(range(4))
    shown = capsys.readouterr().err
    assert re.search(rf"{what}: 100%\|#+\| 4/4 \[\d\d:\d\d<\d\d:\d\d, .*batch", shown)


@pytest.mark.parametrize("name", BUNDLES)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optimizer#weight_decay", 0.01),
        ("train#dataloader#num_workers", 1),
        ("train#sampler#replacement", True),
        ("budget#warmup", 0.1),
        ("early_stopping#patience", 3),
        ("tensorboard#tag_name", "loss"),
        ("average#momentum", 0.5),
    ],
)
def test_every_argument_of_a_component_can_be_set(
    name: str, key: str, value: Any, trained_run: Path, tmp_path: Path
) -> None:
    parser = ConfigParser()
    parser.read_config(config_file(name, "train"))
    parser.update({"run_dir": str(trained_run), "work_dir": str(tmp_path), "ema": 0.9, key: value})
    component, _, argument = key.rpartition("#")
    made = parser.get_parsed_content(component)
    if component == "optimizer":
        assert made.defaults[argument] == value
    else:
        assert getattr(made, argument) == value


@pytest.mark.parametrize("name", BUNDLES)
def test_torchscript_export_and_load(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    shutil.copytree(bundle.bundle_folder(name) / "configs", folder / "configs")
    parser = ConfigParser()
    parser.read_config(config_file(name, "train"))
    network = parser.get_parsed_content("network_def").eval()
    (folder / "models").mkdir()
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    ckpt_export(
        net_id="network_def",
        filepath=str(folder / "models" / "model.ts"),
        ckpt_file=str(folder / "models" / "model.pt"),
        meta_file=config_file(name, "metadata"),
        config_file=config_file(name, "train"),
    )
    x = {"vqvae": torch.rand(1, 1, 128, 128), "pixelcnn": torch.full((1, 1, 32, 32), 7.0)}[name]
    with torch.no_grad():
        expected = network(x)
        scripted = torch.jit.load(folder / "models" / "model.ts")
        loaded = load(name, bundle_dir=str(tmp_path), source="github", repo="a/b/c").eval()
        assert torch.allclose(scripted(x), expected, atol=1e-5)
        assert torch.equal(loaded(x), expected)


def test_every_public_component_is_found_under_its_short_name() -> None:
    table = ComponentLocator().get_component_module_name
    for name in components.__all__:
        found = table(name)
        modules = [found] if isinstance(found, str) else list(found or [])
        assert len(modules) == 1, f"{name} is in {modules}"
        assert modules[0].startswith("monai_vqbrain."), f"{name} is {modules[0]}'s"


def test_a_bundle_of_ones_own_is_the_root_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(bundle.bundle_folder("vqvae") / "configs", tmp_path / "configs")
    assert bundle.bundle_root("vqvae") == str(bundle.bundle_folder("vqvae"))
    monkeypatch.chdir(tmp_path)
    assert bundle.bundle_root("vqvae") == str(tmp_path)
    assert bundle.bundle_root("pixelcnn") == str(bundle.bundle_folder("pixelcnn"))


@pytest.mark.parametrize("name", BUNDLES)
def test_the_links_at_the_root_lead_to_the_files(name: str) -> None:
    for file in ("train.json", "metadata.json", "logging.conf"):
        link = ROOT / "bundles" / name / file
        assert link.readlink() == Path(f"configs/{file}")
        assert link.is_file()


@pytest.mark.slow
def test_the_printed_command_as_typed_leaves_what_the_stages_accept(
    prepared_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(prepared_run, run)
    printed = training_command(run, "vqvae", tiny_vqvae(epochs=1))
    printed = printed.replace(config_file("vqvae", "train"), TYPED)
    command = [sys.executable, *shlex.split(printed)[1:]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"results: {run / '3-vqvae'}" in done.stdout
    train(run, "vqvae", tiny_vqvae(epochs=1))
    assert "3-vqvae is up to date" in capsys.readouterr().out
    encode(run)
    assert (run / "4-codes" / "codes.safetensors").is_file()


def test_the_printed_command_is_the_bundles_own(tmp_path: Path) -> None:
    ids = training_ids(bundle_run(tmp_path), "vqvae", tiny_vqvae())
    command = bundle.bundle_command("vqvae", "train", ids, {"optimizer#lr": 0.002})
    assert command.startswith("python -m monai.bundle run training --config_file ")
    assert f"--run_dir {tmp_path}" in command
    assert "--max_epochs 2 " in command
    assert "--resume" not in command  # as the configuration has it
    assert shlex.split(command)[-2:] == ["--optimizer#lr", "0.002"]


def bundle_run(path: Path) -> Any:
    from monai_vqbrain.runs.folder import RunFolder

    return RunFolder(path)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("optimizer#lr", "$1/0", "would be run as code by MONAI"),
        ("network_def", "@network", "would be run as code by MONAI"),
        ("optimizer", "%x", "would be run as code by MONAI"),
        ("optimizer#betas", ["$1/0"], "would be run as code by MONAI"),
        ("network_def", {"_target_": "os.getcwd"}, "would be run as code by MONAI"),
        ("network_def#_target_", "os.getcwd", "would be run as code by MONAI"),
        ("patience", "$1/0", "would be run as code by MONAI"),
        ("seeding", None, "override seeding: it has an option of its own"),
        ("seeding#seed", 5, "override seeding#seed: it has an option of its own"),
        ("initialize#0", "", "override initialize#0: it has an option of its own"),
        ("imports#3", "", "override imports#3: it has an option of its own"),
        ("handlers", [], "override handlers: it holds components, and the seeding"),
        ("train#trainer#train_handlers", None, "holds components, and the seeding"),
        ("train", {}, "override train: it holds components, and the seeding"),
        ("checkpoint", None, "override checkpoint: it holds components"),
        ("validate#handlers", [], "override validate#handlers: it holds components"),
        ("seed", 3, "override seed: it has an option of its own, see the help"),
        ("", 3, "override : it has an option of its own, see the help"),
        ("optimizer#lrr", 1, "train.json has no such id; did you mean lr"),
        ("optimizer#weight_decoy", 1, "has no such id; did you mean weight_decay"),
        ("network_def#num_code", 3, "did you mean num_codes"),
        ("train#dataloader#pin_memry", True, "did you mean pin_memory"),
        ("nothing_like_it#x", 1, "has no such id; there are: amp, average"),
    ],
)
def test_wrong_overrides_are_refused(key: str, value: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_overrides("vqvae", "train", {key: value})


@pytest.mark.parametrize("name", ["vqvae", "pixelcnn"])
def test_arguments_of_any_component_may_be_overridden(name: str) -> None:
    values = {
        "optimizer#weight_decay": 0.01,  # torch's
        "train#dataloader#pin_memory": True,  # torch's, through MONAI's **kwargs
        "train#dataset#transform": None,  # MONAI's
        "budget#warmup": 0.1,  # ours
        "average#momentum": 0.1,  # ignite's
    }
    assert check_overrides(name, "train", values) == values


def test_right_overrides_come_out_as_data() -> None:
    values = {"optimizer::lr": 0.002, "network_def#num_codes": 1024, "optimizer#betas": [0.5, 0.9]}
    assert check_overrides("vqvae", "train", values) == {
        "optimizer#lr": 0.002,
        "network_def#num_codes": 1024,
        "optimizer#betas": [0.5, 0.9],
    }


def test_a_missing_bundle_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bundle, "__file__", str(tmp_path / "a" / "b" / "bundle.py"))
    with pytest.raises(VQBrainError, match="the bundle vqvae is not in .* install"):
        bundle.bundle_folder("vqvae")


def test_a_checkout_without_links_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text("configs/train.json")
    monkeypatch.setattr(bundle, "bundle_folder", lambda name: tmp_path)
    assert bundle.lost_links() == [tmp_path / "train.json"] * 2
    (tmp_path / "train.json").write_text("{}")
    assert bundle.lost_links() == []
