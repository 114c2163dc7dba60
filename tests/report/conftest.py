"""One synthetic run and its page, shared by the tests that only read them."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_runs import Plan, make_run

from praxiscope.report.build import build_report
from praxiscope.runs.rundir import RunDir


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return make_run(tmp_path_factory.mktemp("run"), Plan(per_class=4))


@pytest.fixture(scope="session")
def page(run: RunDir) -> Path:
    return build_report(run)
