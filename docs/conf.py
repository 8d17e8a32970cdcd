"""How Sphinx builds these pages: sphinx-build -W -b html docs OUT."""

from __future__ import annotations

import re
from importlib.metadata import version as installed
from typing import Any

project = "monai_vqbrain"
copyright = "The monai_vqbrain contributors"
release = version = installed("monai-vqbrain")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
default_role = "code"
html_theme = "furo"
html_title = f"monai_vqbrain {release}"

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Source"]


def escape_shapes(_app: Any, _what: str, _name: str, _of: Any, _how: Any, lines: list[str]) -> None:
    """Keep the star of a shape like (B, *grid) a star, where reStructuredText begins emphasis."""
    lines[:] = [re.sub(r"(?<=, )\*(?=[a-z])|(?<=\()\*(?=[a-z])", r"\*", line) for line in lines]


def setup(app: Any) -> None:
    """Escape before napoleon (priority 500) writes reStructuredText of its own."""
    app.connect("autodoc-process-docstring", escape_shapes, priority=400)
