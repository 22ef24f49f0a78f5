"""`data`: which images, which classes, which size."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ppfsl.config.fields import Fraction, Natural, NonNegative, Strict, Switch, UserPath


class SyntheticConfig(Strict):
    """The drawn blossoms (`data.name: synthetic`)."""

    classes: Annotated[int, Field(strict=True, ge=10)] = 64
    images_per_class: Annotated[int, Field(strict=True, ge=2)] = 40
    seed: Natural = 0


class DataConfig(Strict):
    """Which images, which classes, which size."""

    name: Literal["synthetic", "flowers102", "omniglot", "folder"] = "synthetic"
    root: UserPath | None = None
    """Folder of the raw files; null: $PPFSL_DATA, else ~/.cache/ppfsl."""
    folder: UserPath | None = None
    """`name: folder`: the tree with a folder per class; absolute, or below `root`."""
    split: UserPath | None = None
    """A shipped class split, or the path of a .json file; null: divide the classes by `split_ratio`."""
    split_ratio: tuple[Fraction, Fraction, Fraction] = (0.6, 0.2, 0.2)
    """Shares of base, validation and novel classes, where no `split` is named."""
    split_seed: Natural = 0
    image_size: Annotated[int, Field(strict=True, ge=16, le=1024)] = 84
    """Side in pixels of what the network sees."""
    cached_size: Annotated[int, Field(strict=True, ge=16, le=1024)] | None = None
    """Side in pixels of the cached images, from whose centre `image_size` is cropped; null: `image_size`."""
    channels: Literal[1, 3] = 3
    rotations: Switch = True
    """`name: omniglot`: the characters turned by 90, 180 and 270 degrees are classes of their own, as in the papers."""
    on_corrupt: Literal["error", "skip"] = "error"
    cache_dir: UserPath | None = None
    """Folder of the decoded images and of kept embeddings; null: $PPFSL_CACHE, else ~/.cache/ppfsl/cache."""
    embedding_cache: NonNegative = 4.0
    """Gigabytes for what frozen backbones make of images, kept in `cache_dir`; the least recently used goes first;
    0: nothing is kept."""
    synthetic: SyntheticConfig = SyntheticConfig()

    @model_validator(mode="after")
    def _consistent(self) -> "DataConfig":
        if self.cached_size is not None and self.cached_size < self.image_size:
            raise ValueError("cached_size must not be smaller than image_size")
        if abs(sum(self.split_ratio) - 1) > 1e-6:
            raise ValueError("split_ratio must sum to 1")
        if self.name == "folder" and self.folder is None:
            raise ValueError("name: folder needs folder, the path of the tree of class folders; set data.folder")
        if self.name != "folder" and self.folder is not None:
            raise ValueError(f"folder belongs to name: folder, not to {self.name}; set data.name to folder")
        if self.name == "flowers102" and self.split is None:
            raise ValueError("flowers102 needs a split: metadataset, fsl_ssl or article")
        if self.name == "omniglot" and self.split is None:
            raise ValueError("omniglot needs a split: vinyals or vinyals_trainval")
        self._refuse_unused("rotations", "name: omniglot", self.name == "omniglot")
        return self

    @property
    def table_size(self) -> int:
        """Side in pixels of the cached images."""
        return self.cached_size or self.image_size
