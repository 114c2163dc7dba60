"""Recipes by name or file, ``extends`` one level deep, overrides, and messages for every slip."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from praxiscope.errors import UsageError, did_you_mean
from praxiscope.recipe.schema import Recipe

_MAX_BYTES = 1_000_000
_PRESET = "augment.preset"


class _StrictLoader(yaml.SafeLoader):
    """YAML's safe subset; a key given twice is an error instead of the last one winning."""


def _unique_mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key_node, _ in node.value:
        key = str(key_node.value)
        if key in seen:
            raise UsageError(
                f"The key '{key}' is given twice (line {key_node.start_mark.line + 1}); keep one."
            )
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)
# YAML 1.1 reads 1e-3 as a word, for want of a dot: every recipe would stumble on its learning rate.
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def parse_yaml(text: str, *, origin: str) -> Any:
    """Parse YAML's safe subset.

    Args:
        text: the document.
        origin: what it is, for the message.

    Raises:
        UsageError: not YAML, a duplicate key, or a tag that would build an object.
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a subclass of SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error)
        raise UsageError(f"{origin}{where}: not valid YAML: {problem}.") from error
    except UsageError as error:
        raise UsageError(f"{origin}: {error}") from None


def list_recipes() -> tuple[str, ...]:
    """Return the names of the built-in recipes, sorted."""
    folder = resources.files("praxiscope.recipe") / "builtin"
    return tuple(sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")))


def read_recipe_text(name: str) -> str:
    """Return a built-in recipe's file as it stands, header comment included.

    Raises:
        UsageError: there is no such recipe.
    """
    if name not in list_recipes():
        raise UsageError(
            f"No recipe is called '{name}'. Built in: {', '.join(list_recipes())}."
            f"{did_you_mean(name, list_recipes())} A file ends in .yaml."
        )
    return (resources.files("praxiscope.recipe") / "builtin" / f"{name}.yaml").read_text(encoding="utf-8")


def load_recipe(
    source: str | Path | Mapping[str, Any], overrides: Sequence[str] | Mapping[str, Any] = ()
) -> Recipe:
    """Load, merge and validate a recipe.

    Args:
        source: a built-in name, a path that ends in ``.yaml``/``.yml``, or a mapping.
        overrides: ``["train.lr=3e-5", ...]`` or ``{"train.lr": 3e-5, ...}``; they win over the file.

    Raises:
        UsageError: unknown recipe, key or value; the message names the key and what is allowed.
    """
    content, origin = _read(source)
    base_name = content.pop("extends", None)
    if base_name is not None:
        base, base_origin = _read(str(base_name))
        if "extends" in base:
            raise UsageError(
                f"{origin} extends {base_origin}, which itself extends '{base['extends']}': "
                f"one level is allowed, so that a recipe can be read. Extend '{base['extends']}' directly."
            )
        content = _merge(base, content)
    changes = parse_overrides(overrides)
    # The preset first: it takes the recipe's own augmentation away, and other overrides stand beside it.
    for dotted in sorted(changes, key=lambda key: key != _PRESET):
        _set(content, dotted, changes[dotted])
    return validate_recipe(content, origin=origin)


def validate_recipe(content: Mapping[str, Any], *, origin: str = "the recipe") -> Recipe:
    """Validate a mapping; every slip becomes one line with the key and what is allowed.

    Raises:
        UsageError: as above.
    """
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        lines = [_explain(problem) for problem in _join_unions(map(dict, error.errors()))]
        raise UsageError(f"{origin} can't be used:\n" + "\n".join(f"  - {line}" for line in lines)) from None


def dump_recipe(recipe: Recipe) -> str:
    """Return the resolved recipe as YAML: every field, defaults included, in the schema's order."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)


def compute_recipe_fingerprint(recipe: Recipe) -> str:
    """Return the sha256 of the recipe's canonical JSON, in hex."""
    return _hash(recipe.model_dump(mode="json"))


def compute_saved_fingerprint(path: Path) -> str:
    """Return the fingerprint of a resolved recipe as it was saved, whatever keys have been added since.

    Raises:
        UsageError: the file is no YAML.
    """
    return _hash(parse_yaml(path.read_text(encoding="utf-8"), origin=f"'{path}'"))


def compute_recipe_differences(old: Recipe, new: Recipe) -> list[str]:
    """Return one line ``section.key: old -> new`` for each field that differs."""
    before, after = _flatten(old.model_dump(mode="json")), _flatten(new.model_dump(mode="json"))
    keys = sorted(before.keys() | after.keys())
    return [f"{k}: {before.get(k)} -> {after.get(k)}" for k in keys if before.get(k) != after.get(k)]


def list_keys() -> tuple[str, ...]:
    """Return every key that ``--set`` takes, dotted, in the schema's order."""
    return tuple(_walk(Recipe, ""))


def list_defaults() -> dict[str, Any]:
    """Return every key that ``--set`` takes with its default, in the schema's order."""
    flat = _flatten(Recipe(name="x").model_dump(mode="json"))
    return {key: value for key, value in flat.items() if key in list_keys() and key != "name"}


def _walk(model: type[BaseModel], prefix: str) -> list[str]:
    keys: list[str] = []
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            keys += _walk(annotation, f"{prefix}{name}.")
        else:
            keys.append(f"{prefix}{name}")
    return keys


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def _read(source: str | Path | Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    if isinstance(source, Mapping):
        return _spell_preset(json.loads(json.dumps(source))), "the recipe"
    path = Path(source)
    if path.suffix.lower() in {".yaml", ".yml"}:
        if not path.is_file():
            raise UsageError(f"The recipe file '{path}' does not exist.")
        if path.stat().st_size > _MAX_BYTES:
            raise UsageError(
                f"'{path}' has {path.stat().st_size:,} bytes; a recipe has at most {_MAX_BYTES:,}."
            )
        content, origin = parse_yaml(path.read_text(encoding="utf-8"), origin=f"'{path}'"), f"'{path}'"
    else:
        content, origin = parse_yaml(read_recipe_text(str(source)), origin=f"'{source}'"), f"'{source}'"
    if not isinstance(content, dict):
        raise UsageError(f"{origin} holds {type(content).__name__}; a recipe is a mapping of keys to values.")
    return _spell_preset(content), origin


def _spell_preset(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content with ``augment: word`` written as the mapping that it stands for."""
    if isinstance(content.get("augment"), str):
        return {**content, "augment": {"preset": content["augment"]}}
    return content


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge section by section, except that a preset in ``over`` takes the whole augmentation's place."""
    merged = dict(base)
    for key, value in over.items():
        if key == "augment" and isinstance(value, Mapping) and "preset" in value:
            merged[key] = value
            continue
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def parse_overrides(overrides: Sequence[str] | Mapping[str, Any]) -> dict[str, Any]:
    """Return ``{"train.lr": 3e-5}`` for ``["train.lr=3e-5"]``; values are read as YAML.

    Raises:
        UsageError: no ``=``, or a value that is no YAML.
    """
    if isinstance(overrides, Mapping):
        return {_PRESET if key == "augment" else key: value for key, value in overrides.items()}
    parsed = {}
    for text in overrides:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not key:
            raise UsageError(f"--set '{text}': write it as section.key=value, e.g. --set train.lr=3e-5.")
        parsed[_PRESET if key == "augment" else key] = parse_yaml(value, origin=f"--set {key}")
    return parsed


def _set(content: dict[str, Any], dotted: str, value: Any) -> None:
    if dotted not in list_keys() and not dotted.startswith(("model.kwargs.", "data.columns.")):
        raise UsageError(
            f"There is no recipe key '{dotted}'.{_suggest_key(dotted)} `praxiscope recipes keys` lists all."
        )
    *sections, last = dotted.split(".")
    if dotted == _PRESET:
        content["augment"] = {}
    node = content
    for section in sections:
        node = node.setdefault(section, {})
        if not isinstance(node, dict):
            raise UsageError(f"'{section}' holds a value, so '{dotted}' can't be set inside it.")
    node[last] = value


def _suggest_key(dotted: str) -> str:
    """Suggest by the last word first: ``--set lr=1`` means ``train.lr``."""
    last = dotted.rpartition(".")[2]
    same = [key for key in list_keys() if key.rpartition(".")[2] == last]
    if same:
        return f" Did you mean '{same[0]}'?"
    sections = () if "." in dotted else tuple(Recipe.model_fields)
    return did_you_mean(dotted, sections) or did_you_mean(dotted, list_keys())


def _join_unions(problems: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Make one problem of those of one key: a key of several types has a problem for each of them."""
    joined: dict[tuple[int | str, ...], dict[str, Any]] = {}
    for problem in problems:
        path = _cut_types(problem["loc"])
        if path not in joined:
            joined[path] = {**problem, "loc": path}
            continue
        allowed = str(problem["msg"]).removeprefix("Input should be ")
        joined[path]["msg"] = f"{joined[path]['msg']}, or {allowed}"
    return list(joined.values())


def _cut_types(path: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Leave out what pydantic adds to a key of several types: the type that it tried."""
    model: Any = Recipe
    for depth, part in enumerate(path):
        fields = getattr(model, "model_fields", {})
        if isinstance(part, str) and part not in fields:
            # Above a leaf that is an unknown key, or a section's own rule.
            return path if fields else path[:depth]
        model = fields[part].annotation if isinstance(part, str) else None
    return path


def _explain(problem: dict[str, Any]) -> str:
    path = [str(part) for part in problem["loc"]]
    dotted = ".".join(path)
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{dotted}'.{_suggest_key(dotted)}"
    if problem["type"] == "missing":
        return f"'{dotted}' is missing."
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{dotted}: {message}" if dotted else message
    hint = ""
    if problem["type"] == "literal_error" and isinstance(problem["input"], str):
        hint = did_you_mean(problem["input"], _choices(path))
    return f"{dotted} is {problem['input']!r}: {message[0].lower()}{message[1:]}.{hint}"


def _choices(path: Sequence[str]) -> list[str]:
    model: Any = Recipe
    for part in path:
        if part.isdigit():  # a place in a list, whose words are those of its key
            continue
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            return []
        model = field.annotation
    return [str(choice) for choice in _literals(model)]


def _literals(annotation: Any) -> list[Any]:
    found: list[Any] = []
    for argument in get_args(annotation):
        found += [argument] if isinstance(argument, str) else _literals(argument)
    return found


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
