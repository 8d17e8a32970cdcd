"""The stages of a run, one file per command: files in, files and their provenance out."""
