"""Which model is picked within limits, and what is said about it."""

from __future__ import annotations

import numpy as np
import pytest

from praxiscope.profiling.accuracy import measure_accuracy
from praxiscope.profiling.choice import Candidate, choose, recommend
from praxiscope.profiling.result import Constraints


def build(
    model: str,
    p50: float,
    *,
    right: int | None = None,
    memory: float | None = 300.0,
    runtime: str = "eager-fp32",
) -> Candidate:
    """A candidate whose first ``right`` of 1000 samples are right."""
    correct = np.arange(1000) < (right or 0)
    return Candidate(
        model=model, runtime=runtime, p50_ms=p50, p90_ms=1.2 * p50, images_per_s=1500 / p50, batch_size=8,
        peak_memory_mib=memory,
        accuracy=None if right is None else measure_accuracy(correct, "test"),
        correct={} if right is None else {str(i): bool(hit) for i, hit in enumerate(correct)},
    )  # fmt: skip


def test_the_most_accurate_within_the_limit_is_picked():
    candidates = [build("small", 5, right=700), build("large", 60, right=850), build("middle", 30, right=800)]
    choice = choose(candidates, Constraints(max_latency_ms=50))
    assert (choice.model, choice.runtime) == ("middle", "eager-fp32")
    assert choice.reason.startswith("2 of 3 keep the limits. It is the most accurate (80.0 %")


def test_a_cheaper_one_that_cannot_be_told_apart_is_picked():
    candidates = [build("small", 5, right=797), build("large", 60, right=800)]
    choice = choose(candidates, Constraints(max_latency_ms=100))
    assert choice.model == "small"
    assert "can't be told from that of the most accurate, large in eager-fp32" in choice.reason


def test_pairing_tells_apart_what_intervals_do_not():
    # 78 % and 80 % of 1000: the intervals overlap, but the 20 samples are all the large one's.
    small, large = build("small", 5, right=780), build("large", 60, right=800)
    assert choose([small, large], Constraints(max_latency_ms=100)).model == "large"
    unpaired = [Candidate(**{**vars(each), "correct": {}}) for each in (small, large)]
    assert choose(unpaired, Constraints(max_latency_ms=100)).model == "small"


def test_the_same_model_is_picked_in_its_quickest_runtime():
    candidates = [build("a", 20, right=800), build("a", 9, right=800, runtime="openvino")]
    choice = choose(candidates, Constraints(max_memory_mib=400))
    assert (choice.model, choice.runtime) == ("a", "openvino")
    assert choose(candidates, Constraints(runtime="eager-fp32")).runtime == "eager-fp32"


def test_nothing_fits_names_the_limit_and_the_nearest():
    candidates = [build("small", 50, right=700, memory=900), build("large", 100, right=800, memory=2000)]
    choice = choose(candidates, Constraints(max_latency_ms=40, max_memory_mib=500))
    assert choice.model is None
    assert choice.reason == (
        "Nothing keeps the limits. Nearest is small in eager-fp32: its p90 latency is 60 ms, 40 are allowed; "
        "its peak memory is 900 MiB, 500 are allowed."
    )


def test_memory_that_was_not_measured_keeps_no_limit():
    choice = choose([build("a", 5, right=700, memory=None)], Constraints(max_memory_mib=500))
    assert choice.model is None
    assert "its memory was not measured" in choice.reason


def test_a_runtime_that_was_not_measured_is_named():
    choice = choose([build("a", 5, right=700)], Constraints(runtime="openvino"))
    assert choice.reason == (
        "No model can be chosen in the runtime 'openvino'; those to choose from: eager-fp32."
    )
    int8 = choose([build("a", 5, right=700)], Constraints(runtime="openvino-int8"))
    assert int8.reason.endswith("An int8 runtime needs its own accuracy: --accuracy.")


def test_a_p90_without_an_upper_end_is_not_called_a_bound():
    few = Candidate(**{**vars(build("a", 5, right=700)), "p90_bounded": False})
    assert "too few calls to bound p90, about 6" in choose([few], Constraints(max_latency_ms=50)).reason
    assert "p90 at most 6" in choose([build("a", 5, right=700)], Constraints(max_latency_ms=50)).reason


def test_without_accuracies_the_quickest_is_taken_and_that_is_said():
    choice = choose([build("a", 5), build("b", 3)], Constraints(max_latency_ms=50))
    assert choice.model == "b"
    assert "No accuracy is known" in choice.reason


def test_recommendations_follow_the_numbers():
    candidates = [
        build("small", 5, right=700),
        build("large", 60, right=850),
        build("large", 20, right=850, runtime="openvino", memory=900),
    ]
    edge, server, memory, accuracy, machine = recommend(candidates, cpu="a CPU", threads=2)
    assert edge.startswith("One image at a time (an edge device): large in openvino")
    assert "20 ms" in edge
    assert server.startswith("Many images at once (a server): large in openvino")
    assert "75 images/s" in server
    assert memory.startswith("Where memory is short: large in eager-fp32")
    assert "85.0 %" in accuracy
    assert "a CPU with 2 threads" in machine
    assert not any("small" in sentence for sentence in (edge, server, memory, accuracy))


def test_nothing_timed_recommends_nothing():
    assert recommend([], cpu="", threads=1) == ("Nothing was timed, so nothing can be recommended.",)


@pytest.mark.parametrize("cpu_threads", [1, 2])
def test_threads_are_told(cpu_threads):
    assert f"{cpu_threads} thread" in recommend([build("a", 5)], cpu="x", threads=cpu_threads)[-1]
