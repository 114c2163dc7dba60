"""From a folder of labelled human-action images to a model that its owner can defend.

::

    import praxiscope as px

    run = px.train(px.load_recipe("demo-cnn"), data="DIR")
    px.evaluate(run)

Names are imported when they are first used, so that ``import praxiscope`` costs nothing.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from praxiscope.errors import PraxiscopeError as PraxiscopeError
    from praxiscope.evaluation.predictions import Predictions as Predictions
    from praxiscope.recipe.load import load_recipe as load_recipe
    from praxiscope.recipe.schema import Recipe as Recipe
    from praxiscope.runs.find import find_run as find_run
    from praxiscope.runs.rundir import RunDir as RunDir
    from praxiscope.workflows.bakeoff import bakeoff as bakeoff
    from praxiscope.workflows.cascade import cascade as cascade
    from praxiscope.workflows.check import check_data as check_data
    from praxiscope.workflows.compare import compare as compare
    from praxiscope.workflows.debug import debug as debug
    from praxiscope.workflows.evaluate import evaluate as evaluate
    from praxiscope.workflows.explain import explain as explain
    from praxiscope.workflows.export import export as export
    from praxiscope.workflows.fuse import fuse as fuse
    from praxiscope.workflows.predict import predict as predict
    from praxiscope.workflows.profile import profile as profile
    from praxiscope.workflows.report import report as report
    from praxiscope.workflows.submit import submit as submit
    from praxiscope.workflows.train import train as train
    from praxiscope.workflows.tune import tune as tune
    from praxiscope.workflows.verify import verify as verify

__version__ = version("praxiscope")

_HOMES = {
    "PraxiscopeError": "errors",
    "Predictions": "evaluation.predictions",
    "Recipe": "recipe.schema",
    "RunDir": "runs.rundir",
    "bakeoff": "workflows.bakeoff",
    "cascade": "workflows.cascade",
    "check_data": "workflows.check",
    "compare": "workflows.compare",
    "debug": "workflows.debug",
    "evaluate": "workflows.evaluate",
    "explain": "workflows.explain",
    "export": "workflows.export",
    "find_run": "runs.find",
    "fuse": "workflows.fuse",
    "load_recipe": "recipe.load",
    "predict": "workflows.predict",
    "profile": "workflows.profile",
    "report": "workflows.report",
    "submit": "workflows.submit",
    "train": "workflows.train",
    "tune": "workflows.tune",
    "verify": "workflows.verify",
}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 - strings all, from the table above


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"praxiscope has no '{name}'; it offers {', '.join(sorted(_HOMES))}")
    # A subpackage of the same name (evaluate, train, report) is what `import` would bind here.
    value = getattr(importlib.import_module(f"praxiscope.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
