"""Configuration files: `_base_` inheritance, `-o` overrides, and errors that name the nearest known key."""

import difflib
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from ppfsl.config import Config
from ppfsl.errors import UserError
from ppfsl.files import kind_of
from ppfsl.notation import DoubledKeyError, parse_yaml

_IN_YAML = {
    "tuple_type": "a list",
    "model_type": "a group of keys",
    "model_attributes_type": "a group of keys",
}
_READ_BESIDE_CHECKPOINT = {
    "data.cache_dir", "data.embedding_cache", "adaptations", "device", "embedding", "onednn", "seed", "threads",
}  # fmt: skip


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration in a YAML file, with overrides laid over it.

    `_base_` in a file names one file or several, relative to it; mappings merge key by key, and the file that names a
    base wins over it; lists are replaced. An override is `key.sub=value`, its value in YAML; a number as a key counts
    into a list (`pretrain.0.epochs=3`).

    Raises:
        UserError: for a missing or malformed file, an unknown or ill-typed key, a value out of range.
    """
    tree = _read(path, ())
    for override in overrides:
        tree = _override(tree, override)
    return parse_config(tree, str(path))


def refuse_unread(overrides: Sequence[str]) -> None:
    """Raise where an override of a classifier that is built from a checkpoint sets a key that nothing reads then.

    Args:
        overrides: as `load_config` has taken them.

    Raises:
        UserError: naming the first one.
    """
    for override in overrides:
        key, _, text = override.partition("=")
        for leaf in _leaves(key, parse_yaml(text)):
            if not any(leaf == known or leaf.startswith(f"{known}.") for known in _READ_BESIDE_CHECKPOINT):
                raise UserError(f"-o {override}: nothing reads {leaf} where --checkpoint is given; leave it out")


def _leaves(key: str, value: Any) -> list[str]:
    """The dotted keys below a key, of which an empty mapping has none, or itself."""
    if not isinstance(value, dict):
        return [key]
    return [leaf for name, below in value.items() for leaf in _leaves(f"{key}.{name}", below)]


def parse_config(tree: Mapping[str, Any], origin: str) -> Config:
    """A plain mapping as a configuration; `origin` names it in errors.

    Raises:
        UserError: naming the key, what was expected, and the nearest known key where the key is unknown.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        # A misspelt key often makes a required one missing too: the misspelling is the cause.
        first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
        raise UserError(f"{origin}: {_sentence(first)}") from None


def config_name(path: Path) -> str:
    """A configuration's name: its path below the folder `configs`, without suffix; elsewhere its file's stem."""
    parts = path.absolute().with_suffix("").parts
    if "configs" in parts:
        last = len(parts) - 1 - parts[::-1].index("configs")
        return "/".join(parts[last + 1 :])
    return parts[-1]


def run_folder(config: Config, name: str) -> Path:
    """Where a run of that name writes."""
    return Path(config.output_dir) if config.output_dir is not None else Path("output") / name


def evaluation_folder(config: Config, name: str, checkpoint: Path) -> Path:
    """Where an evaluation of a checkpoint writes, so that a run keeps its own results.

    That is `output_dir`. Where none is set, or where it is the folder of a run, it is `eval_<name of the file>` in the
    folder of the checkpoint's run; a file that is in no run's `checkpoints/` goes by the run of the configuration.

    Raises:
        UserError: when `output_dir` cannot be looked up.
    """
    folder = run_folder(config, name)
    if config.output_dir is not None and kind_of(folder / "checkpoints") != "folder":
        return folder
    place = checkpoint if checkpoint.parent.name == "checkpoints" else checkpoint.absolute()
    run = place.parent.parent if place.parent.name == "checkpoints" else folder
    return run / f"eval_{checkpoint.stem}"


def threads_of(folder: Path) -> int | None:
    """With how many threads the run in a folder was started; None where there is nothing to resume.

    Raises:
        UserError: when the folder cannot be looked into.
    """
    if kind_of(folder / "checkpoints" / "last.safetensors") != "file":
        return None
    try:
        tree = parse_yaml((folder / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    threads = tree.get("threads") if isinstance(tree, dict) else None
    return threads if isinstance(threads, int) and threads > 0 else None


def to_yaml(config: Config) -> str:
    """The resolved configuration, every key with its value."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    resolved = path.resolve()
    if resolved in above:
        raise UserError(f"{path} inherits from itself through _base_; remove one of the references")
    try:
        tree = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"there is no configuration file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the configuration file {path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        if isinstance(error, DoubledKeyError):
            raise UserError(f"{path}{line}: {error.problem}") from None
        raise UserError(f"{path}{line} is not valid YAML: {getattr(error, 'problem', None) or error}") from None
    if tree is None:
        raise UserError(f"{path} is empty; write keys into it, or {{}} where the defaults are all that is wanted")
    if not isinstance(tree, dict):
        raise UserError(f"{path} must hold keys and values, not a {type(tree).__name__}")
    bases = tree.pop("_base_", [])
    bases = bases if isinstance(bases, list) else [bases]
    merged: dict[str, Any] = {}
    for base in bases:
        if not isinstance(base, str):
            raise UserError(f"{path}: _base_ must name a file or a list of files, not {base!r}")
        merged = _merge(merged, _read(path.parent / Path(base).expanduser(), (*above, resolved)))
    return _merge(merged, tree)


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _override(tree: dict[str, Any], override: str) -> dict[str, Any]:
    keys, equals, text = override.partition("=")
    if not equals or not keys:
        raise UserError(f"-o {override}: write it as key.sub=value")
    try:
        value = parse_yaml(text)
    except DoubledKeyError as error:
        raise UserError(f"-o {override}: {error.problem}") from None
    except yaml.YAMLError:
        raise UserError(f"-o {override}: the value is not valid YAML; quote it") from None
    return _put(tree, keys.split("."), value, override)


def _put(node: Any, keys: Sequence[str], value: Any, override: str) -> Any:
    """A copy of `node` with `value` at the place that `keys` lead to."""
    if not keys:
        return value
    key, rest = keys[0], keys[1:]
    if isinstance(node, list):
        if not key.isdecimal() or int(key) >= len(node):
            raise UserError(f"-o {override}: {key!r} is not one of the list's places 0 to {len(node) - 1}")
        return [_put(item, rest, value, override) if i == int(key) else item for i, item in enumerate(node)]
    if not isinstance(node, dict | None):
        raise UserError(f"-o {override}: there are no keys below {key!r}, whose parent is {node!r}")
    return {**(node or {}), key: _put((node or {}).get(key), rest, value, override)}


def _sentence(error: Any) -> str:
    """One of pydantic's errors as a sentence."""
    model, keys = _locate(error["loc"])
    path = ".".join(keys)
    if error["type"] == "extra_forbidden":
        known = list(model.model_fields) if model else []
        close = difflib.get_close_matches(keys[-1], known, n=1, cutoff=0.5)
        if close:
            return f"unknown key {path!r}; did you mean {'.'.join([*keys[:-1], close[0]])!r}?"
        places = list(dict.fromkeys(_places(keys[-1], Config)))[:4] if len(keys) == 1 else []
        hint = f"did you mean {' or '.join(places)}?" if places else f"known: {', '.join(known)}"
        return f"unknown key {path!r}; {hint}"
    if error["type"] == "missing":
        return f"{path!r} is required"
    if error["type"] == "union_tag_invalid":
        return f"{path}.name is {error['ctx']['tag']!r}; known: {error['ctx']['expected_tags']}"
    if error["type"] == "union_tag_not_found":
        return f"{path!r} needs a key 'name'"
    if error["type"] == "value_error":
        return f"{path}: {error['ctx']['error']}" if path else str(error["ctx"]["error"])
    if error["type"] == "too_short":
        least = error["ctx"]["min_length"]
        entries = "one entry" if least == 1 else f"{least} entries"
        return f"{path} must be a list with {entries} or more, not {error['input']!r}"
    if error["type"] in _IN_YAML:  # pydantic speaks of tuples and instances, which a user has not written
        return f"{path} must be {_IN_YAML[error['type']]}, not {error['input']!r}"
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{path}: {message}, not {error['input']!r}"


def _locate(loc: Iterable[int | str]) -> tuple[type[BaseModel] | None, list[str]]:
    """The model that holds the last key of a pydantic location, and the keys as the user writes them."""
    kind: Any = Config
    holder: type[BaseModel] | None = Config
    keys: list[str] = []
    for step in loc:
        options = _members(kind)
        tagged = [m for m in options if _is_model(m) and len(options) > 1 and step in _tags(m)]
        if tagged:  # the tag of a union, which stands in no file
            kind = tagged[0]
            continue
        model = next((m for m in options if _is_model(m)), None)
        if isinstance(step, int):
            keys.append(str(step))
            kind = next((typing.get_args(m)[0] for m in options if typing.get_args(m)), None)
        elif model is not None:
            keys.append(step)
            holder = model
            kind = model.model_fields[step].annotation if step in model.model_fields else None
        # Else pydantic's name for one branch of a plain union ("int", "literal[...]"): no key of the user's.
    return holder, keys


def _places(name: str, model: type[BaseModel], above: str = "") -> Iterator[str]:
    """The dotted keys that end in a name, of a list's entries those of the first."""
    for key, field in model.model_fields.items():
        place = above + key
        if key == name:
            yield place
        for kind in _members(field.annotation):
            listed = [member for entry in typing.get_args(kind) for member in _members(entry)]
            for below, models in ((".", [kind]), (".0.", listed)):
                for other in filter(_is_model, models):
                    yield from _places(name, other, place + below)


def _members(kind: Any) -> list[Any]:
    """The members of a union, or the type itself, without its annotations."""
    while typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    if typing.get_origin(kind) in (typing.Union, type(int | str)):
        return [member for option in typing.get_args(kind) for member in _members(option)]
    return [kind]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _tags(model: type[BaseModel]) -> tuple[Any, ...]:
    field = model.model_fields.get("name")
    return typing.get_args(field.annotation) if field else ()
