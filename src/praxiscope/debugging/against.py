"""Whether two trainings use the same data and the same split, and in what else they differ."""

from __future__ import annotations

from praxiscope.data.manifest import SPLITS, Manifest
from praxiscope.debugging.result import Check, Status, Table, name_some
from praxiscope.recipe.load import compute_recipe_differences
from praxiscope.recipe.schema import Recipe


def compare_trainings(ours: Manifest, theirs: Manifest, recipe: Recipe, other: Recipe, *, name: str) -> Check:
    """Compare this training with another run.

    Args:
        ours: samples of this recipe.
        theirs: samples of the other run.
        recipe: this one.
        other: the other run's.
        name: of the other run.
    """
    here, there = _list_splits(ours), _list_splits(theirs)
    faults, warnings, rows = [], [], []
    for split in SPLITS:
        same, gone, new = here[split] & there[split], there[split] - here[split], here[split] - there[split]
        rows.append((split, len(same), len(new), len(gone), name_some(sorted(new | gone))))
        if gone or new:
            warnings.append(
                f"{split}: {len(same)} samples in both, {len(new)} only here, {len(gone)} only there"
            )
    leaked = sorted(here["train"] & (there["test"] | there["val"]))
    if leaked:
        faults.append(
            f"{len(leaked)} samples that train here are validated or tested on there ({name_some(leaked)})"
        )
    names = [head for head in ours.heads if ours.heads[head] != theirs.heads.get(head)]
    if names or ours.heads.keys() != theirs.heads.keys():
        faults.append(f"the labels of {', '.join(names) or 'the heads'} are others, or in another order")
    same_data = ours.fingerprint == theirs.fingerprint
    if not same_data and not warnings and not faults:
        warnings.append("the same samples, but labels, contents or duplicates differ")
    changes = compute_recipe_differences(other, recipe)
    status: Status = "fault" if faults else "warning" if warnings else "ok"
    line = f"same data and split as {name}" if same_data else f"not the data of {name}"
    return Check(
        name="against",
        status=status,
        line="; ".join([line, *faults, *warnings, f"{len(changes)} recipe keys differ"]),
        rule="Two models can be compared where they were trained, chosen and tested on the same samples.",
        figures={"same_fingerprint": same_data, "recipe_differences": changes},
        tables=(
            Table(
                title="Samples",
                columns=("split", "in both", "only here", "only there", "such as"),
                rows=tuple(rows),
            ),
            Table(
                title="Recipe", columns=("there -> here",), rows=tuple((change,) for change in changes),
            ),
        ),
    )  # fmt: skip


def _list_splits(manifest: Manifest) -> dict[str, set[str]]:
    return {split: set(manifest.usable(split)["sample_id"].to_pylist()) for split in SPLITS}
