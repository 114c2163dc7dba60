"""What every page that Praxiscope writes must keep, whatever text others chose (reliability E7)."""

from __future__ import annotations

import base64
import hashlib
import re

from html_reader import Page

ALLOWED = frozenset({
    *("a", "article", "bdi", "body", "button", "circle", "code", "dd", "details", "div", "dl", "dt"),
    *("figcaption", "figure", "footer", "form", "g", "h1", "h2", "h3", "head", "header", "html", "img"),
    *("label", "li", "line", "main", "meta", "nav", "ol", "option", "output", "p", "polygon", "polyline"),
    *("pre", "rect", "script", "section", "select", "small", "span", "strong", "style", "summary", "svg"),
    *("table", "tbody", "td", "text", "th", "thead", "title", "tr", "ul", "wbr"),
})  # fmt: skip


def assert_only_known_elements(page: Page) -> None:
    """Check that there is no foreign element, handler, style attribute or address."""
    assert page.unclosed == []
    assert {tag for tag, _ in page.elements} <= ALLOWED
    for tag, attributes in page.elements:
        assert not [
            name for name in attributes if name.startswith("on") or name in {"style", "srcdoc", "action"}
        ]
        for name in {"href", "src", "data", "xlink:href", "poster", "srcset"} & set(attributes):
            fits = re.fullmatch(r"#[a-z]+|data:image/jpeg;base64,[A-Za-z0-9+/=]+", attributes[name])
            assert fits, (tag, name)
    named = [meta["http-equiv"] for meta in page.all("meta") if "http-equiv" in meta]
    assert named == ["Content-Security-Policy"]


def assert_policy_fits(page: Page) -> None:
    """Check that exactly the page's own style and script may run."""
    assert [script.get("type") for script in page.all("script")] == ["application/json", None]
    assert len(page.all("style")) == 1
    (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert "unsafe" not in policy
    for kind, text in (("style", page.inside["style"][0]), ("script", page.inside["script"][1])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
