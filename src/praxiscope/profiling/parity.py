"""Whether a runtime puts out what eager float32 does; no time is printed before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from praxiscope.profiling.material import Logits
from praxiscope.profiling.runtimes.session import Precision
from praxiscope.tensors import Heads


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How far outputs may lie from eager float32."""

    relative: float
    """Largest difference over the largest logit of eager."""
    agreement: float
    """Least share of samples with the same top-1."""


# float32 runtimes differ in the order of sums alone. 8 bits of mantissa and 8-bit integers differ by several
# per cent; what breaks a network is far beyond (37 to 57 % where calibration goes wrong).
TOLERANCES = MappingProxyType({
    "fp32": Tolerance(relative=1e-3, agreement=0.999),
    "bf16": Tolerance(relative=0.1, agreement=0.95),
    "int8": Tolerance(relative=0.25, agreement=0.9),
})  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Outputs of a runtime beside those of eager float32."""

    max_abs_diff: float
    relative_diff: float
    """``max_abs_diff`` over the largest absolute logit of eager."""
    agreement: float
    refusal: str | None
    """Why the runtime is refused; None when it is within the tolerance."""


def compare_logits(
    expected: Logits,
    given: Logits,
    precision: Precision,
    *,
    trained: bool = True,
    heads: Heads | None = None,
) -> Parity:
    """Compare a runtime's logits with those of eager float32 on the same samples.

    Args:
        expected: (N, K) of eager float32.
        given: (N, K) of the runtime.
        precision: what the runtime computes in.
        trained: whether weights are trained. Random ones give nearly equal logits, so that which is the
            largest says nothing: the agreement is told, but refuses nobody.
        heads: what the logits stand for; samples agree where each head's answer does.
    """
    if expected.shape != given.shape:
        shapes = f"{tuple(given.shape)} instead of {tuple(expected.shape)}"
        return Parity(
            max_abs_diff=np.inf,
            relative_diff=np.inf,
            agreement=0.0,
            refusal=f"its output has the shape {shapes}",
        )
    if not np.isfinite(given).all():
        return Parity(
            max_abs_diff=np.inf,
            relative_diff=np.inf,
            agreement=0.0,
            refusal="its output has NaN or infinity in it",
        )
    difference = float(np.abs(expected - given).max())
    relative = difference / max(float(np.abs(expected).max()), 1e-12)
    agreement = _compare_answers(expected, given, [slice(None)] if heads is None else heads.columns.values())
    return Parity(
        max_abs_diff=difference,
        relative_diff=relative,
        agreement=agreement,
        refusal=_explain(relative, agreement, precision, trained=trained),
    )


def _compare_answers(expected: Logits, given: Logits, columns: Iterable[slice]) -> float:
    """Return the share of samples of which the largest logit of each head is the same."""
    same = [expected[:, own].argmax(axis=1) == given[:, own].argmax(axis=1) for own in columns]
    return float(np.all(same, axis=0).mean())


def _explain(relative: float, agreement: float, precision: Precision, *, trained: bool) -> str | None:
    allowed = TOLERANCES[precision]
    if relative > allowed.relative:
        return (
            f"its logits differ from eager fp32 by {100 * relative:.3g} % of the largest logit; "
            f"{100 * allowed.relative:g} % are allowed in {precision}"
        )
    if trained and agreement < allowed.agreement:
        return (
            f"its top-1 agrees with eager fp32 on {100 * agreement:.1f} % of the samples; "
            f"{100 * allowed.agreement:g} % are asked for in {precision}"
        )
    return None
