"""Reliability E7: text that others chose stays text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest
from html_reader import Page, read_page
from payloads import PAYLOADS

from praxiscope.reporting.page import escape_json

ALLOWED = {
    *(
        "a",
        "bdi",
        "body",
        "button",
        "circle",
        "code",
        "dd",
        "details",
        "div",
        "dl",
        "dt",
        "figcaption",
        "figure",
    ),
    *(
        "footer",
        "form",
        "g",
        "h1",
        "h2",
        "h3",
        "head",
        "header",
        "html",
        "img",
        "label",
        "li",
        "line",
        "main",
    ),
    *("meta", "nav", "ol", "option", "output", "p", "polyline", "pre", "rect", "script", "section", "select"),
    *(
        "small",
        "span",
        "style",
        "summary",
        "svg",
        "table",
        "tbody",
        "td",
        "text",
        "th",
        "thead",
        "title",
        "tr",
    ),
    *("ul", "wbr"),
}


def test_there_are_thirty_different_payloads() -> None:
    assert len(set(PAYLOADS)) == 30


def read_policy(page: Page) -> str:
    (policy,) = [
        meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"
    ]
    return policy


@pytest.mark.parametrize("which", ["page", "hostile"])
def test_a_page_holds_no_foreign_element_handler_style_or_address(
    which: str, request: pytest.FixtureRequest
) -> None:
    page = read_page(request.getfixturevalue(which))
    assert page.unclosed == []
    assert {tag for tag, _ in page.elements} <= ALLOWED
    for tag, attributes in page.elements:
        assert not [
            name for name in attributes if name.startswith("on") or name in {"style", "srcdoc", "action"}
        ]
        for name in {"href", "src", "data", "xlink:href", "poster", "srcset"} & set(attributes):
            assert re.fullmatch(r"#[a-z]+|data:image/jpeg;base64,[A-Za-z0-9+/=]+", attributes[name]), (
                tag,
                name,
            )
    assert [meta["http-equiv"] for meta in page.all("meta") if "http-equiv" in meta] == [
        "Content-Security-Policy"
    ]


@pytest.mark.parametrize("which", ["page", "hostile"])
def test_the_policy_names_the_one_style_and_the_one_script(
    which: str, request: pytest.FixtureRequest
) -> None:
    page = read_page(request.getfixturevalue(which))
    assert [script.get("type") for script in page.all("script")] == ["application/json", None]
    assert len(page.all("style")) == 1
    policy = read_policy(page)
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert "unsafe" not in policy
    for kind, text in (("style", page.inside["style"][0]), ("script", page.inside["script"][1])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_each_payload_is_shown_as_it_was_written(hostile: Path) -> None:
    text = read_page(hostile).text
    for payload in PAYLOADS:
        shown = payload.replace("\u2028", "\u27e8U+2028\u27e9").replace("\u2029", "\u27e8U+2029\u27e9")
        assert " ".join(shown.split()) in text


def test_the_embedded_data_is_json_without_a_way_out(hostile: Path) -> None:
    raw = read_page(hostile).inside["script"][0]
    assert not set("<>&\u2028\u2029") & set(raw)
    assert len(json.loads(raw)["names"]) == 30


@pytest.mark.parametrize("text", [*PAYLOADS, "\u2028", "]]>", "\U0001f600", "\x00", "\udcff"])
def test_escaped_json_reads_back(text: str) -> None:
    escaped = str(escape_json({"text": text}))
    assert json.loads(escaped) == {"text": text}
    assert not set("<>&\u2028\u2029") & set(escaped)


def test_json_refuses_what_json_lacks() -> None:
    with pytest.raises(ValueError, match="JSON"):
        escape_json([float("nan")])
