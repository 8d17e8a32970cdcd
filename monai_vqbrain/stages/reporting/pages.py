"""Self-contained HTML pages from the templates in templates/."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from monai_vqbrain.errors import VQBrainError
from monai_vqbrain.files import writing

MAX_BYTES = 5 * 1024 * 1024
WIDEST = 1280  # pixels of a picture; the page is 1056 wide
SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
NO_BREAK = "\u00a0"
LARGE = 1e5  # numbers from here on are written with an exponent


def page(template: str, context: Mapping[str, Any]) -> str:
    """Fill in a template; every value is escaped, and a missing one is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("monai_vqbrain.stages.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FILTERS
    return environment.get_template(template).render(context)


def write_report(path: Path, template: str, context: Mapping[str, Any]) -> None:
    """Write a page, unless it would be larger than 5 MB.

    Raises:
        VQBrainError: if it would.
    """
    html = page(template, context)
    if len(html.encode()) > MAX_BYTES:
        raise VQBrainError(
            f"the report would have {len(html) / 2**20:.1f} MB, more than 5: please report this"
        )
    with writing(path) as partial:
        partial.write_text(html, encoding="utf-8")


def data_uri(png: bytes) -> str:
    """A picture to be embedded; one wider than `WIDEST` pixels is reduced to that."""
    from PIL import Image

    with Image.open(BytesIO(png)) as picture:
        if picture.width > WIDEST:
            height = round(picture.height * WIDEST / picture.width)
            buffer = BytesIO()
            picture.resize((WIDEST, height), Image.Resampling.BOX).save(buffer, "PNG")
            png = buffer.getvalue()
    return "data:image/png;base64," + b64encode(png).decode()


def number(value: float | None, digits: int = 2) -> str:
    """A number with this many decimals, fewer if it is large; a missing one as a dash.

    Example:
        >>> number(0.5), number(1587.3), number(None)
        ('0.50', '1587', '–')
        >>> number(34594063.1).split(NO_BREAK)
        ['3.5', '×', '10⁷']
    """
    if value is None:
        return "–"
    if abs(value) < LARGE:
        shown = digits if abs(value) < 100 else min(digits, 1 if abs(value) < 1000 else 0)
        return f"{round(value, shown) + 0.0:.{shown}f}"  # + 0.0: no negative zero
    mantissa, exponent = f"{value:.1e}".split("e")
    power = str(int(exponent)).translate(SUPERSCRIPT)
    return NO_BREAK.join((mantissa, "×", f"10{power}"))


def percent(value: float | None, digits: int = 1) -> str:
    """A share in [0, 1] as `31.2 %`."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def interval(value: Mapping[str, Any], digits: int = 3) -> str:
    """`0.879 (0.861 to 0.897)`, of a mean or another `value` with `low` and `high`."""
    middle = value["mean"] if "mean" in value else value["value"]
    if middle is None or value["low"] is None:
        return number(middle, digits)
    return f"{number(middle, digits)} {ends(value['low'], value['high'], digits)}"


def ends(low: float | None, high: float | None, digits: int = 2) -> str:
    """`(0.861 to 0.897)` without a line break inside; empty if there is no interval."""
    text = "" if low is None else f"({number(low, digits)} to {number(high, digits)})"
    return text.replace(" ", NO_BREAK)


def duration(seconds: float) -> str:
    """`4.2 s`, `1 min 15 s`, `2 h 3 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


FILTERS: dict[str, Callable[..., str]] = {
    "number": number,
    "percent": percent,
    "interval": interval,
    "ends": ends,
    "duration": duration,
}
