"""The commands on bundles and configurations: `vqbrain bundle ...` and `vqbrain config ...`."""

from __future__ import annotations

from pathlib import Path

import click

from monai_vqbrain.options import FILE, FOLDER, common_options

NEW_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group()
def bundle() -> None:
    """List the bundles, export a run as one, or verify one."""


@bundle.command("list")
@common_options
def list_() -> None:
    """List the shipped bundles.

    \b
    Example: vqbrain bundle list
    """
    from monai_vqbrain.stages.bundle import list_bundles

    for one in list_bundles():
        weights = "with weights" if one.has_weights else "without weights"
        click.echo(f"{one.name:10}{one.version:8}{weights:17}{one.task}")


@bundle.command()
@click.argument("name")
@click.argument("out", type=NEW_FILE)
@click.option("--run", type=FOLDER, required=True, metavar="RUN", help="The run, evaluated.")
@click.option("--data", "description", metavar="TEXT",
              help="Sentences on the training data, for metadata and model card.")  # fmt: skip
@click.option("--licence", metavar="TEXT", help="Licence of the training data.")
@common_options
def export(name: str, out: Path, run: Path, description: str | None, licence: str | None) -> None:
    """Export a network of a run as a bundle for MONAI's model zoo.

    NAME is vqvae or pixelcnn (the prior, with the VQ-VAE that decodes its samples). OUT is a zip
    file with weights, TorchScript, configurations, metadata and model card.

    \b
    Example: vqbrain bundle export vqvae vqvae.zip --run my-run
             vqbrain bundle export pixelcnn prior.zip --run my-run --data "60 adults." --licence CC0
    """
    import monai_vqbrain

    monai_vqbrain.export_bundle(name, out, run, description=description, licence=licence)


@bundle.command()
@click.argument("name", metavar="NAME|FOLDER|ZIP")
@click.option("--schema", type=FILE, metavar="FILE",
              help="The model zoo's schema of metadata (needs the extra [export]).")  # fmt: skip
@common_options
def verify(name: str, schema: Path | None) -> None:
    """Verify a bundle by the checks of MONAI's model zoo.

    \b
    Example: vqbrain bundle verify vqvae
             vqbrain bundle verify vqvae.zip
    """
    import monai_vqbrain

    for words in monai_vqbrain.verify_bundle(name, schema):
        click.echo(f"ok: {words}")


@click.group()
def config() -> None:
    """List the shipped configurations, or copy one to edit it."""


@config.command("list")
@common_options
def list_configs() -> None:
    """List the shipped configurations.

    \b
    Example: vqbrain config list
    """
    from monai_vqbrain.stages.config import list_configs

    click.echo("\n".join(list_configs()))


@config.command()
@click.argument("name")
@click.argument("out", type=NEW_FILE, required=False)
@common_options
def copy(name: str, out: Path | None) -> None:
    """Copy a shipped configuration to OUT, to edit it and run it with MONAI.

    \b
    Example: vqbrain config copy vqvae/train
             vqbrain config copy pixelcnn/train my-prior.json
    """
    import monai_vqbrain

    monai_vqbrain.copy_config(name, out)
