"""The scripts of the page on clusters are what a shell and our commands take."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import click
import pytest

from monai_vqbrain.cli import vqbrain

PAGE = Path(__file__).parents[1] / "docs" / "cluster.md"
SCRIPTS = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("script", SCRIPTS, ids=["workers", "prepare", "train", "samples"])
def test_a_shell_can_read_the_script(script: str) -> None:
    found = subprocess.run(
        ["bash", "-n"], input=script, capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stderr) == (0, "")
    lines = script.splitlines()
    assert lines[0] == "#!/bin/bash"
    directives = [line.startswith("#SBATCH ") for line in lines[1:]]
    assert directives == sorted(directives, reverse=True)  # SLURM reads none after a command


def test_commands_and_options_of_the_scripts_are_ours() -> None:
    used = re.findall(r"^(?:vqbrain|ranks) (\w+)(.*)$", "\n".join(SCRIPTS), flags=re.MULTILINE)
    assert [name for name, _ in used] == ["prepare", "encode", "sample", "evaluate"]
    for name, arguments in used:
        options = {one for each in vqbrain.commands[name].params for one in each.opts}
        assert set(re.findall(r"(?<!\S)--?[a-z]\S*", arguments)) <= options
    assert isinstance(vqbrain, click.Group)
