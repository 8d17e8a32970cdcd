"""How Sphinx builds these pages: sphinx-build -W -b html docs OUT."""

from __future__ import annotations

from importlib.metadata import version as installed

project = "monai_vqbrain"
copyright = "The monai_vqbrain contributors"
release = version = installed("monai-vqbrain")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
suppress_warnings = ["toc.empty_glob"]
html_theme = "furo"
html_title = f"monai_vqbrain {release}"

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Source"]
