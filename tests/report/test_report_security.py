"""Reliability E7: text that others chose stays text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from html_reader import read_page
from page_safety import assert_only_known_elements, assert_policy_fits
from payloads import PAYLOADS
from praxiscope.reporting.page import escape_json


def test_there_are_thirty_different_payloads() -> None:
    assert len(set(PAYLOADS)) == 30


@pytest.mark.parametrize("which", ["page", "hostile"])
def test_a_page_holds_no_foreign_element_handler_style_or_address(
    which: str, request: pytest.FixtureRequest
) -> None:
    assert_only_known_elements(read_page(request.getfixturevalue(which)))


@pytest.mark.parametrize("which", ["page", "hostile"])
def test_the_policy_names_the_one_style_and_the_one_script(
    which: str, request: pytest.FixtureRequest
) -> None:
    assert_policy_fits(read_page(request.getfixturevalue(which)))


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
