"""`python -m monai_vqbrain`: the command line."""

from monai_vqbrain.cli import main

main()
