"""Self-contained HTML pages from the templates in templates/."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Filters = Mapping[str, Callable[..., str]]


def page(template: str, context: Mapping[str, Any], filters: Filters | None = None) -> str:
    """Fill in a template; every value is escaped, and a missing one is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("monai_vqbrain.stages.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= dict(filters or {})
    return environment.get_template(template).render(context)
