"""From the configuration's `data` keys to an image table and its class split."""

from pathlib import Path

from ppfsl.config import DataConfig
from ppfsl.data.class_split import ClassSplit, load_split, ratio_split
from ppfsl.data.flowers102 import flowers102_source
from ppfsl.data.folder import folder_source
from ppfsl.data.omniglot import CHARACTERS, ROTATIONS, omniglot_source
from ppfsl.data.roots import cache_root, data_root
from ppfsl.data.source import Source
from ppfsl.data.table import ImageTable, load_table
from ppfsl.errors import UserError
from ppfsl.files import kind_of
from ppfsl.progress import warn


def open_table(config: DataConfig) -> ImageTable:
    """The image table that a configuration names, decoded at the first call and cached; says what was left out.

    Raises:
        UserError: when the raw files are missing or damaged.
    """
    table = load_table(
        _open_source(config), cache_root(config.cache_dir), config.table_size, config.channels, config.on_corrupt
    )
    if table.skipped:
        warn(f"{len(table.skipped)} corrupt images of {table.name} are left out, {table.skipped[0]} for one")
    return table


def check_split(config: DataConfig) -> None:
    """Raise where a named split is not to be had; no image is looked at, so that this can be said at once.

    Raises:
        UserError: when there is no such split, or its file is malformed.
    """
    if config.split is not None:
        load_split(config.name, config.split)


def open_split(config: DataConfig, table: ImageTable) -> ClassSplit:
    """The class split that a configuration names, or the division of the table's classes by `split_ratio`.

    Omniglot without rotations has the split's upright classes only.

    Raises:
        UserError: when there is no such split, or too few classes to divide.
    """
    if config.split is not None:
        split = load_split(config.name, config.split)
        if config.name == "omniglot" and not config.rotations:
            return split.without(range(CHARACTERS, ROTATIONS * CHARACTERS))
        return split
    return ratio_split(table.labels, config.split_ratio, config.split_seed)


def _named_folder(config: DataConfig) -> Path:
    """The folder of `name: folder`.

    Raises:
        UserError: when it is relative and not there, saying where it was looked for.
    """
    named = Path(config.folder or "")
    path = data_root(config.root) / named
    if not named.is_absolute() and kind_of(path) is None:
        raise UserError(
            f"{path} does not exist: data.folder counts from data.root, else from $PPFSL_DATA; set data.root (to . for "
            "the working directory), or give the whole path"
        )
    return path


def _open_source(config: DataConfig) -> Source:
    if config.name == "flowers102":
        return flowers102_source(data_root(config.root) / "flowers102")
    if config.name == "omniglot":
        return omniglot_source(data_root(config.root) / "omniglot", config.rotations)
    if config.name == "folder":
        return folder_source(_named_folder(config))
    from ppfsl.data.synthetic import synthetic_source

    drawn = config.synthetic
    return synthetic_source(drawn.classes, drawn.images_per_class, drawn.seed, config.table_size)
