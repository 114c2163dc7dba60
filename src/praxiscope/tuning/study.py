"""A study on Optuna: proposals, their figures, and which trials to end early; kept in a journal file.

The journal is written by several processes at once (local workers, the tasks of a Slurm array) under its
own lock. Who begins a trial holds ``claim.lock`` while it counts and asks, so there are never more trials
than were asked for. A trial belongs to the process that holds the lock in its folder: one without a holder
was killed and is gone on with under its number.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import filelock
import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, Trial, TrialState

from praxiscope.errors import EnvironmentProblem, IntegrityError
from praxiscope.tuning.plan import StudyPlan
from praxiscope.tuning.space import Space, list_combinations

JOURNAL_NAME = "journal.log"
_STARTUP_TRIALS = 10  # of random search before TPE and before the median rule; half where there are few
_UNFINISHED = (TrialState.RUNNING, TrialState.WAITING)
Outcome = Literal["complete", "pruned", "failed"]
_STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


class Study:
    """One study, as one process sees it.

    Args:
        folder: of the study.
        plan: what was asked for.

    Raises:
        EnvironmentProblem: the journal can't be written.
        IntegrityError: the journal is damaged.
    """

    def __init__(self, folder: Path, plan: StudyPlan) -> None:
        self._folder = folder
        self._plan = plan
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path = str(folder / JOURNAL_NAME)
        try:
            # A lock file instead of a link: Windows makes no links without a privilege.
            storage = JournalStorage(JournalFileBackend(path, lock_obj=JournalFileOpenLock(path)))
            self._study = optuna.create_study(
                storage=storage,
                study_name=plan.name,
                sampler=build_sampler(plan),
                pruner=build_pruner(plan),
                direction="maximize" if plan.mode == "max" else "minimize",
                load_if_exists=True,
            )
        except OSError as problem:
            raise EnvironmentProblem(f"The journal {path} can't be used: {problem}.") from problem
        except (ValueError, KeyError, AssertionError) as problem:
            raise IntegrityError(
                f"The journal {path} is damaged ({problem}). Start a new study with another --name."
            ) from problem

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials by number, those of other processes included."""
        return self._study.get_trials(deepcopy=False)

    @contextlib.contextmanager
    def claiming(self) -> Iterator[None]:
        """Keep other processes from claiming a trial meanwhile."""
        with filelock.FileLock(self._folder / "claim.lock"):
            yield

    def list_running(self) -> list[int]:
        """Return the numbers of trials that have begun and not ended; hold :meth:`claiming`."""
        return [trial.number for trial in self.trials if trial.state == TrialState.RUNNING]

    def count_begun(self) -> int:
        """Return how many trials have begun."""
        return sum(trial.state != TrialState.WAITING for trial in self.trials)

    def enqueue_grid(self) -> None:
        """Queue every combination once, in an order drawn by the study's seed; hold :meth:`claiming`."""
        if self._plan.sampler != "grid" or self.trials:
            return
        grid = list_combinations(self._plan.space)
        for place in np.random.default_rng(self._plan.seed).permutation(len(grid))[: self._plan.trials]:
            self._study.enqueue_trial(grid[place])

    def begin(self) -> int:
        """Begin the next trial and return its number; hold :meth:`claiming`."""
        trial = self._study.ask(build_distributions(self._plan.space))
        return trial.number

    def read_proposal(self, number: int) -> dict[str, Any]:
        """Return a trial's values by key; what a kill kept from being proposed is proposed now."""
        trial, space = self._attach(number), build_distributions(self._plan.space)
        missing = [key for key in space if key not in trial.params]
        for key in missing:
            trial._suggest(key, space[key])  # noqa: SLF001 - as Study.ask does; suggest_* repeats the kinds
        return {key: trial.params[key] for key in space}

    def report(self, number: int, *, epoch: int, value: float) -> bool:
        """Record a trial's figure after an epoch (1-based); return whether it should end now."""
        trial = self._attach(number)
        if epoch not in self.trials[number].intermediate_values:
            trial.report(value, epoch)
        return bool(trial.should_prune())

    def finish(self, number: int, outcome: Outcome, *, value: float | None, facts: Mapping[str, Any]) -> None:
        """End a trial.

        Args:
            number: of the trial.
            outcome: how.
            value: its figure, where it has one.
            facts: plain values to keep with it: run, reason, seconds.
        """
        self.note(number, facts)
        # A pruned trial's value is the last that it reported, which Optuna keeps by itself.
        values = value if outcome == "complete" else None
        self._study.tell(number, values, state=_STATES[outcome])

    def note(self, number: int, facts: Mapping[str, Any]) -> None:
        """Keep plain values with a trial that has not ended."""
        trial = self._attach(number)
        for key, fact in facts.items():
            trial.set_user_attr(key, fact)

    def compute_importance(self) -> dict[str, float] | str:
        """Return each key's share of what makes trials good, or why there is none.

        PED-ANOVA (Watanabe et al. 2023, https://arxiv.org/abs/2304.10255): how far the values of the better
        tenth of trials are from those of all; shares sum to 1.
        """
        done = [trial for trial in self.trials if trial.state == TrialState.COMPLETE]
        if len(self._plan.space) < 2:
            return "One key was searched, so it has all the importance."
        if len(done) < MIN_FOR_IMPORTANCE:
            return (
                f"{len(done)} finished trials tell nothing about importance; it takes {MIN_FOR_IMPORTANCE}."
            )
        if len({trial.value for trial in done}) < 2:
            return "All finished trials have the same figure."
        evaluator = PedAnovaImportanceEvaluator()
        shares = get_param_importances(self._study, evaluator=evaluator)
        if not sum(shares.values()) > 0:
            return "The better trials have the same values as all."
        return {key: float(share) for key, share in shares.items()}

    def _attach(self, number: int) -> Trial:
        return Trial(self._study, self.trials[number]._trial_id)  # noqa: SLF001 - Optuna's only handle


MIN_FOR_IMPORTANCE = 8
"""Finished trials below which importance is noise."""


def build_distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return Optuna's word for each key's values."""
    made: dict[str, BaseDistribution] = {}
    for each in space:
        if each.kind == "choice":
            made[each.key] = optuna.distributions.CategoricalDistribution(each.choices)
        elif each.kind == "int":
            made[each.key] = optuna.distributions.IntDistribution(int(each.low), int(each.high), log=each.log)
        else:
            made[each.key] = optuna.distributions.FloatDistribution(each.low, each.high, log=each.log)
    return made


def build_sampler(plan: StudyPlan) -> optuna.samplers.BaseSampler:
    """Return what proposes; its draws follow from (seed, number), so that a resume changes nothing."""
    return _NumberedSampler(plan)


def build_pruner(plan: StudyPlan) -> optuna.pruners.BasePruner:
    """Return what ends trials early.

    ``median``: a trial whose best figure so far is below the median that the others had at that epoch, after
    the first 5 trials and the first fifth of the epochs (2 at least). ``hyperband`` (Li et al. 2018): several
    rounds of successive halving.
    """
    if plan.pruner == "median":
        few = min(5, max(1, plan.trials // 4))
        patience = max(2, plan.epochs // 5)
        return optuna.pruners.MedianPruner(n_startup_trials=few, n_warmup_steps=patience)
    if plan.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=plan.epochs)
    return optuna.pruners.NopPruner()


class _NumberedSampler(optuna.samplers.BaseSampler):
    """TPE or random search whose every draw follows from (seed, trial number, what finished before)."""

    def __init__(self, plan: StudyPlan) -> None:
        self._plan = plan
        self._inner: optuna.samplers.BaseSampler = self._build(0)

    def _build(self, number: int) -> optuna.samplers.BaseSampler:
        seed = int(np.random.SeedSequence([self._plan.seed, number]).generate_state(1)[0])
        if self._plan.sampler == "tpe":
            startup = min(_STARTUP_TRIALS, max(2, self._plan.trials // 2))
            return optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup)
        return optuna.samplers.RandomSampler(seed=seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._inner = self._build(trial.number)
        self._inner.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._inner.after_trial(study, trial, state, values)
