"""How Sphinx builds these pages: sphinx-build -W -b html docs OUT."""

from __future__ import annotations

import logging as messages
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any

from sphinx.util import logging

import monai_vqbrain

sys.path.insert(0, str(Path(__file__).parent))
from links import broken_links

logger = logging.getLogger(__name__)

project = "monai_vqbrain"
copyright = "The monai_vqbrain contributors"
release = version = monai_vqbrain.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "gallery"]
default_role = "code"
html_theme = "furo"
html_title = f"monai_vqbrain {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
smartquotes = False  # they would turn --option into –option

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Source"]

# The output of examples is theirs: no progress bars, and nothing on MONAI's DICOM reader.
os.environ["TQDM_DISABLE"] = "1"
warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")
messages.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(messages.ERROR)
sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "auto_gallery",
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "capture_repr": (),
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_signature": False,
    "write_computation_times": False,
}


def escape_shapes(_app: Any, _what: str, _name: str, _of: Any, _how: Any, lines: list[str]) -> None:
    """Keep the star of a shape like (B, *grid) a star, where reStructuredText begins emphasis."""
    lines[:] = [re.sub(r"(?<=, )\*(?=[a-z])|(?<=\()\*(?=[a-z])", r"\*", line) for line in lines]


def keep_examples(_app: Any, _command: Any, lines: list[str]) -> None:
    """Show the examples of a command's help with their line breaks, not as prose."""
    kept: list[str] = []
    for number, line in enumerate(lines):
        is_example = line.startswith("| ")
        if is_example and not lines[number - 1].startswith("| "):
            kept += ["", ".. code-block:: text", ""]
        kept.append(f"   {line[2:]}" if is_example else line)
    lines[:] = kept


def check_public_names(_app: Any, env: Any) -> None:
    """Warn of each public name of the package that no page documents; -W makes it an error."""
    objects = env.get_domain("py").objects  # monai_vqbrain.NAME or monai_vqbrain.PART.NAME
    documented = {name.rpartition(".")[2] for name in objects if name.count(".") <= 2}
    for name in monai_vqbrain.__all__:
        if name not in documented and name != "__version__":
            logger.warning("no page documents monai_vqbrain.%s: add it to docs/api.md", name)


def check_links(app: Any, error: Exception | None) -> None:
    """Warn of each broken relative link of the site; -W makes it an error."""
    if error is None and app.builder.format == "html":
        for problem in broken_links(Path(app.outdir)):
            logger.warning("%s", problem)


def setup(app: Any) -> None:
    """Escape before napoleon (priority 500) writes reStructuredText of its own."""
    app.connect("autodoc-process-docstring", escape_shapes, priority=400)
    app.connect("sphinx-click-process-description", keep_examples)
    app.connect("env-check-consistency", check_public_names)
    app.connect("build-finished", check_links, priority=900)  # after all files are written
