"""One HTML file that opens anywhere, fetches nothing, runs nothing, and shows every text as text."""

import base64
import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from micro.errors import MicroError
from micro.formats.storage import replacing

# Controls, invisible marks that turn or join text, lone surrogates: what can make a name look like another one.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def write(path: Path, template: str, facts: Mapping[str, Any]) -> None:
    """Fill a template and put the page in the place of `path`, whole; generators among the facts are never held whole.

    Raises MicroError when the file cannot be written.
    """
    templates = environment()
    style = Markup(templates.get_template("style.css").render())
    policy = f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; base-uri 'none'; form-action 'none'"
    stream = templates.get_template(template).stream({**facts, "style": style, "policy": policy})
    stream.enable_buffering(256)
    with _drafted(path) as draft:
        stream.dump(str(draft), encoding="utf-8")


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Put a record as JSON in the place of `path`, whole; raise MicroError when the file cannot be written."""
    with _drafted(path) as draft:
        draft.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def _drafted(path: Path) -> Iterator[Path]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as draft:
            yield draft
    except OSError as fault:
        raise MicroError(f"{path}: the report cannot be written ({fault.strerror}). Give another --out.") from fault


@cache
def environment() -> Environment:
    """Return the templates; whatever they show is escaped, and what cannot be seen is written out."""
    found = Environment(
        loader=PackageLoader("micro.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(number=number, as_json=as_json, breakable=breakable, when=when)
    return found


def visible(value: object) -> object:
    """Return a text with every character that cannot be seen, or that turns the reading direction, written out."""
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    return "".join(_written_out(sign) if unicodedata.category(sign) in _UNSEEN else sign for sign in value)


def as_json(value: object) -> str:
    """Return a value as indented JSON in plain ASCII, ready to be escaped."""
    return Markup.escape(json.dumps(value, indent=1))


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with so many significant digits, whole ones with all theirs; an unknown one is a dash."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    text = f"{value:#.{digits}g}".removesuffix(".")
    return f"{float(text):,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}") if "e+" in text else text


def breakable(name: str) -> Markup:
    """Return a file name that a browser may break behind the marks that people put between its words."""
    return Markup("").join(
        Markup("{}<wbr>").format(part) if part in "/_-." else part for part in re.split("([/_.-])", str(visible(name)))
    )


def when(time: str | None) -> str:
    """Return an ISO time as people read it; an unknown one is a dash."""
    if time is None:
        return "\N{EN DASH}"
    return f"{datetime.fromisoformat(time).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _written_out(sign: str) -> str:
    plain = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return plain.get(sign) or (f"\\u{ord(sign):04x}" if ord(sign) < 2**16 else f"\\U{ord(sign):08x}")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
