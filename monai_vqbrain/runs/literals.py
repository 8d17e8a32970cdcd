"""Data in MONAI's configurations: values that come out as they went in, and never run."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

# MONAI evaluates "$...", follows "@..." and "%...", and rewrites "#" to "::" anywhere in a text.
SPECIAL = re.compile("[$@%#]")


def as_data(value: Any) -> Any:
    """A value for an id of a configuration, which resolves to exactly this value.

    MONAI takes texts for expressions, references, macros and paths of ids, and mappings for
    components. A value that holds such a text or a key that begins with an underscore becomes one
    expression: a literal in which none of MONAI's characters is left.

    Args:
        value: a text, number, truth value, None, or lists and mappings of these.

    Example:
        >>> as_data({"diagnosis": "AD"}), as_data({"_a": 1})
        ({'diagnosis': 'AD'}, "${'_a': 1}")
    """
    return "$" + _literal(value) if _is_special(value) else value


def _is_special(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(
            _is_special(key) or str(key).startswith("_") or _is_special(inner)
            for key, inner in value.items()
        )
    if isinstance(value, Sequence) and not isinstance(value, str):
        return any(_is_special(inner) for inner in value)
    return isinstance(value, str) and SPECIAL.search(value) is not None


def _literal(value: Any) -> str:
    """Python source of a value."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_literal(k)}: {_literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(_literal(inner) for inner in value) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    return SPECIAL.sub(lambda found: f"\\x{ord(found[0]):02x}", ascii(value))
