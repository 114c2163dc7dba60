"""Which method to trust on this model and data, and which can't be told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from praxiscope.data.manifest import quantify
from praxiscope.explaining.measure.result import PairDifference, Sanity
from praxiscope.stats.bootstrap import bootstrap_means, code_groups
from praxiscope.stats.paired import ALPHA, compare_replicates
from praxiscope.stats.significance import adjust_holm

RANDOM = "random"
_BASIS = "by insertion minus deletion on {}"
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Methods in their order."""

    ranks: Mapping[str, int]
    """One more than the number of methods that are told apart as better; equal ranks are ties."""
    pairs: tuple[PairDifference, ...]
    best: tuple[str, ...]
    sentences: tuple[str, ...]


def rank_methods(
    scores: Mapping[str, FloatArray],
    groups: Sequence[str | None],
    *,
    sanity: Mapping[str, Sanity | None],
    cost_ms: Mapping[str, float],
    resamples: int = 2000,
    seed: int = 0,
) -> Ranking:
    """Compare every two methods on the same samples.

    Two are told apart where the t test over groups, corrected after Holm over all pairs, falls below 0.05;
    otherwise they tie. A method that fails the sanity check keeps its rank and is never among the best.

    Args:
        scores: Method -> (N,) insertion minus deletion; holds ``random``.
        groups: (N,).
        sanity: Method -> its verdict, None where it wasn't checked.
        cost_ms: Method -> milliseconds an image.
        resamples: Of the intervals.
        seed: Likewise.
    """
    pairs = _compare_pairs(scores, groups, resamples=resamples, seed=seed)
    better = {name: _find_better(name, pairs) for name in scores}
    ranks = {name: 1 + len(above) for name, above in better.items()}
    others = [name for name in scores if name != RANDOM]
    useful = [name for name in others if name in better[RANDOM]]
    sound = [name for name in useful if not _fails(sanity.get(name))]
    best = tuple(name for name in sound if not better[name] & set(sound))
    equals = [name for name in others if best and name not in best and best[0] not in better[name]]
    advice = _tell_best(best, useful, others, equals, basis=_BASIS.format(quantify(len(groups), "sample")))
    sentences = [advice if not best else f"{advice}{_tell_cost(best, cost_ms)}{_tell_doubt(best, sanity)}."]
    sentences += [
        f"{name}: {found.sentence}"
        for name in others
        if (found := sanity.get(name)) and found.verdict != "passes"
    ]
    sentences += [_tell_useless(name, better[name]) for name in others if useful and name not in useful]
    return Ranking(ranks=ranks, pairs=pairs, best=best, sentences=tuple(sentences))


def find_pair(pairs: Sequence[PairDifference], first: str, second: str) -> tuple[float, bool]:
    """Return the corrected p-value of a pair, and whether `second` is told apart as better than `first`."""
    for pair in pairs:
        if {pair.first, pair.second} == {first, second}:
            sign = 1 if pair.first == first else -1
            return pair.p_holm, bool(pair.p_holm < ALPHA and sign * pair.difference.value > 0)
    return 1.0, False


def _compare_pairs(
    scores: Mapping[str, FloatArray], groups: Sequence[str | None], *, resamples: int, seed: int
) -> tuple[PairDifference, ...]:
    names = list(combinations(scores, 2))
    if not names:
        return ()
    codes = code_groups(groups, len(groups))
    differences = {pair: scores[pair[1]] - scores[pair[0]] for pair in names}
    intervals = bootstrap_means(
        {"\0".join(pair): values for pair, values in differences.items()},
        groups=groups,
        resamples=resamples,
        seed=seed,
    )
    p_values = [compare_replicates(scores[a][None], scores[b][None], codes).p_value for a, b in names]
    return tuple(
        PairDifference(first=a, second=b, difference=intervals[f"{a}\0{b}"], p_holm=float(p_holm))
        for (a, b), p_holm in zip(names, adjust_holm(p_values), strict=True)
    )


def _find_better(name: str, pairs: Sequence[PairDifference]) -> set[str]:
    others = {each for pair in pairs for each in (pair.first, pair.second)} - {name}
    return {other for other in others if find_pair(pairs, name, other)[1]}


def _fails(sanity: Sanity | None) -> bool:
    return sanity is not None and sanity.verdict == "fails"


def _tell_best(
    best: Sequence[str],
    useful: Sequence[str],
    others: Sequence[str],
    equals: Sequence[str],
    *,
    basis: str,
) -> str:
    """Say which to trust; where there is one, without the full stop, as cost and doubt follow."""
    if not others:
        return "No method was measured but the random map."
    if not useful:
        who = f"{others[0]} isn't" if len(others) == 1 else "None of the methods is"
        return f"{who} told apart as better than a random map ({basis}): trust none of these maps here."
    if not best:
        failed = ", ".join(useful)
        return f"What beats a random map here ({failed}) fails the sanity check: trust none of these maps."
    if len(best) == 1:
        text = f"Trust {best[0]} for this model and these data: better than a random map"
        if not equals:
            return f"{text}, and best {basis}"
        return f"{text} {basis}, though not told apart as better than {_join(equals)}"
    return f"{_join(best)} can't be told apart and are better than a random map ({basis})"


def _tell_cost(best: Sequence[str], cost_ms: Mapping[str, float]) -> str:
    if len(best) == 1:
        return ""
    cheapest = min(best, key=lambda name: cost_ms[name])
    return f"; the cheapest of them is {cheapest} at {cost_ms[cheapest]:.3g} ms an image"


def _tell_doubt(best: Sequence[str], sanity: Mapping[str, Sanity | None]) -> str:
    """Say of which of the best it isn't known that their maps go with the weights."""
    unsure = [name for name in best if (found := sanity.get(name)) and found.verdict == "undecided"]
    unchecked = [name for name in best if sanity.get(name) is None]
    text = f"; but the sanity check of {_join(unsure)} is undecided" if unsure else ""
    return f"{text}; the sanity check was left out" if unchecked else text


def _tell_useless(name: str, better: set[str]) -> str:
    if RANDOM in better:
        return f"{name} is worse than a random map here: its maps mislead."
    return f"{name} can't be told apart from a random map here."


def _join(names: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)
