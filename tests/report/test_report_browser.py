"""The page in a real browser: nothing runs but its own script, nothing is requested, the controls work."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from report_runs import Plan, make_run

from html_reader import Page, read_page
from praxiscope.reporting.build import build_report

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on the PATH"),
]
FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-extensions",
    "--disable-default-apps",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # nothing leaves the machine
    "--enable-logging=stderr",
    "--virtual-time-budget=2000",
    "--dump-dom",
)


def open_page(path: Path, folder: Path, *more: str) -> tuple[Page, list[str], str]:
    """Load a page; return the document after its scripts ran, all addresses requested, and the console."""
    assert BROWSER is not None
    log = folder / "net.json"
    # The sandbox needs rights that a container's root user lacks.
    sandbox = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    places = [f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}"]
    command = [BROWSER, *FLAGS, *sandbox, *places, *more, path.as_uri()]
    done = subprocess.run(command, capture_output=True, timeout=120, check=True, encoding="utf-8")
    dumped = folder / "dumped.html"
    dumped.write_text(done.stdout, encoding="utf-8")
    console = "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    return read_page(dumped), read_requests(log), console


def read_requests(log: Path) -> list[str]:
    """Return the addresses that a page asked for; the browser's own requests have no origin."""
    content: dict[str, Any] = json.loads(log.read_text(encoding="utf-8"))
    parameters = [event.get("params", {}) for event in content["events"]]
    asked = [
        one for one in parameters if "url" in one and one.get("initiator", "not an origin") != "not an origin"
    ]
    return sorted({str(one["url"]) for one in asked})


def with_script(page: Path, folder: Path, script: str) -> Path:
    """Return a copy of the page that lifts the policy and runs ``script`` at the end."""
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8"))
    copy = folder / "copy.html"
    copy.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    return copy


def test_the_check_itself_notices_a_script_a_request_and_a_violation(tmp_path: Path) -> None:
    control = tmp_path / "control.html"
    control.write_text(
        "<!DOCTYPE html><html><head></head><body><script>document.documentElement.dataset.pwned='1';"
        "console.log('seen')</script><img src='http://pwned.invalid/x.png' alt=''></body></html>",
        encoding="utf-8",
    )
    page, requests, console = open_page(control, tmp_path)
    assert page.all("html")[0].get("data-pwned") == "1"
    assert requests == ["http://pwned.invalid/x.png"]
    assert "seen" in console


def test_thirty_payloads_as_label_file_and_run_name_do_nothing(hostile: Path, tmp_path: Path) -> None:
    page, requests, console = open_page(hostile, tmp_path)
    assert "data-pwned" not in page.all("html")[0]
    assert requests == []
    assert console == "", "an error or a violation of the policy was logged"
    assert len(page.all("option")) == 30 * 2 + 2 + 2, "the page's own script ran to its end"


def test_only_the_policy_stands_between_an_injected_element_and_its_effect(
    page: Path, tmp_path: Path
) -> None:
    text = page.read_text(encoding="utf-8")
    attack = (
        "<script>document.documentElement.dataset.pwned='1'</script>"
        "<img src='http://pwned.invalid/x.png' alt='' onerror=\"document.documentElement.dataset.pwned='2'\">"
    )
    copy = tmp_path / "injected.html"
    copy.write_text(text.replace("</body>", attack + "</body>"), encoding="utf-8")
    dumped, requests, console = open_page(copy, tmp_path)
    assert "data-pwned" not in dumped.all("html")[0]
    assert requests == []
    assert "Content Security Policy" in console


def read_steps(page: Path, tmp_path: Path, script: str) -> Any:
    """Run a script in a copy of the page and return what it put into ``steps``."""
    script = f"const steps = {{}};{script};document.documentElement.dataset.steps = JSON.stringify(steps);"
    dumped, _, console = open_page(with_script(page, tmp_path, script), tmp_path)
    assert console == ""
    return json.loads(dumped.all("html")[0]["data-steps"])


def test_a_table_is_sorted_by_its_head_buttons(page: Path, tmp_path: Path) -> None:
    steps = read_steps(
        page,
        tmp_path,
        """
        const table = document.querySelector("table.sortable");
        const buttons = table.querySelectorAll("thead button");
        const read = () => Array.from(table.tBodies[0].rows, (row) => Number(row.cells[5].dataset.value));
        const head = buttons[5].parentElement;
        buttons[5].click();
        steps.up = read(); steps.first = head.getAttribute("aria-sort");
        buttons[5].click();
        steps.down = read(); steps.second = head.getAttribute("aria-sort");
        buttons[0].click();
        steps.names = Array.from(table.tBodies[0].rows, (row) => row.cells[0].textContent);
        steps.left = head.getAttribute("aria-sort");
        """,
    )
    assert steps["up"] == sorted(steps["up"])
    assert steps["down"] == sorted(steps["up"], reverse=True)
    assert (steps["first"], steps["second"], steps["left"]) == ("ascending", "descending", None)
    assert steps["names"] == sorted(steps["names"])
    assert len(set(steps["up"])) > 3


def test_the_gallery_is_filtered_ordered_and_unfolded(page: Path, tmp_path: Path) -> None:
    steps = read_steps(
        page,
        tmp_path,
        """
        const items = () => Array.from(document.querySelectorAll("#gallery > li:not([hidden])"));
        const change = (id, value) => {
          document.getElementById(id).value = value;
          document.getElementById(id).dispatchEvent(new Event("change"));
        };
        const ids = () => items().map((one) => one.querySelector(".id").textContent);
        steps.start = ids(); steps.shown = document.getElementById("shown").textContent;
        change("order", "low"); steps.low = ids(); change("order", "high");
        const show = document.querySelector("button.show"); show.click();
        steps.pair = items().map((one) => one.querySelector(".names").innerText);
        steps.label = show.getAttribute("aria-label");
        change("filter-target", ""); change("filter-preds", "");
        while (!document.getElementById("more").hidden) document.getElementById("more").click();
        steps.all = ids();
        """,
    )
    assert len(steps["start"]) == 20
    assert steps["shown"] == f"20 of {len(steps['all'])} shown"
    assert steps["low"] == steps["all"][::-1][:20]
    target, preds = re.fullmatch(r"Show failures: true (\w+), predicted (\w+)", steps["label"]).groups()
    assert steps["pair"]
    for text in steps["pair"]:
        assert text.split() == ["true", target, "said", preds]


def test_the_theme_button_switches_there_and_back(page: Path, tmp_path: Path) -> None:
    steps = read_steps(
        page,
        tmp_path,
        """
        const button = document.getElementById("theme");
        const look = () => [button.innerText.trim(), getComputedStyle(document.body).backgroundColor];
        steps.start = look(); button.click(); steps.dark = look(); button.click(); steps.back = look();
        """,
    )
    assert steps["start"] == steps["back"]
    assert steps["start"][1] != steps["dark"][1]
    assert steps["start"][0].endswith("Dark")
    assert steps["dark"][0].endswith("Light")


@pytest.mark.parametrize("width", [500, 1400])
def test_no_page_is_wider_than_its_window(width: int, tmp_path: Path) -> None:
    names = tuple(f"class_{index}_{'x' * (2 * index)}" for index in range(40))
    page = build_report(make_run(tmp_path, Plan(names=names, per_class=2)))
    script = (
        "document.documentElement.dataset.steps = document.documentElement.scrollWidth + '/' + innerWidth;"
    )
    dumped, _, _ = open_page(with_script(page, tmp_path, script), tmp_path, f"--window-size={width},900")
    content, window = map(int, dumped.all("html")[0]["data-steps"].split("/"))
    assert window == width
    assert content <= window
