"""Rendering of one self-contained page under a strict content security policy.

Three lines of defence against text that others chose (class names, file names, recipe names): jinja2's
autoescape for everything printed, JSON with ``< > &`` and the line separators escaped for everything the
script reads, and a policy that lets exactly one script and one style run, by hash. The page loads nothing: no
request leaves it.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from praxiscope.reporting import wording

_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def render_page(
    context: Mapping[str, Any],
    *,
    template: str = "report.html.j2",
    styles: Sequence[str] = ("report.css",),
    scripts: Sequence[str] = ("report.js",),
) -> str:
    """Return the HTML of a page.

    Args:
        context: What the template and its ``frame.html.j2`` print; ``embedded`` is handed to the page's
            script as JSON.
        template: Name of the page's template; it fills the block ``main`` of the frame.
        styles: Names of the style sheets, joined into the page's one style.
        scripts: Names of the scripts, joined into the page's one script.
    """
    style, script = ("\n".join(map(_read_template, names)) for names in (styles, scripts))
    policy = (
        "default-src 'none'; img-src data:; "
        f"style-src '{hash_source(style)}'; script-src '{hash_source(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        _build_environment()
        .get_template(template)
        .render(
            **context,
            policy=policy,
            style=Markup(style),  # noqa: S704  # our own files, hashed into the policy
            script=Markup(script),  # noqa: S704
            data_json=escape_json(context["embedded"]),
        )
    )


def escape_json(value: Any) -> Markup:
    """Return JSON that can't end, open or split a ``<script>`` element.

    Raises:
        ValueError: ``value`` holds a number that isn't finite; JSON has none.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character, escape in _ESCAPES.items():
        text = text.replace(character, escape)
    return Markup(text)  # noqa: S704  # escaped in the line above


def hash_source(text: str) -> str:
    """Return the content-security-policy source of an inline element, ``sha256-...``."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")


@functools.cache  # so that templates are compiled once, not once for each of a hundred pages
def _build_environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_read_template),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.filters.update(
        percent=wording.format_percent,
        interval=wording.format_interval,
        count=wording.format_count,
        duration=wording.format_duration,
        size=wording.format_size,
        points=wording.format_points,
        breakable=_allow_breaks,
    )
    return environment


def _finalize(value: Any) -> Any:
    """Make odd characters visible in everything that a template prints, before it is escaped."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return wording.show_text(value)
    return value


def _allow_breaks(text: str) -> Markup:
    """Let a name break after its underscores and slashes instead of anywhere."""
    pieces = re.split(r"(?<=[_/.-])", wording.show_text(text))
    return Markup("<wbr>").join(pieces)  # escapes each piece


def _read_template(name: str) -> str:
    return resources.files("praxiscope.reporting").joinpath("templates", name).read_text(encoding="utf-8")
