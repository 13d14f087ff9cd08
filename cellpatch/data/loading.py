"""How cells get from disk to a model."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Loading:
    """Folders of stores and features, and how batches are loaded.

    `resident_gib` is the most that crops may take in memory or on the device; larger data stay on disk. `workers`
    processes load batches that are augmented on the CPU. `embeddings_gib` limits the features on disk, which are stored
    as `embedding_dtype`. `embedding_batch` cells are embedded at a time (null: by input side and device). Raises
    ValueError if a number is out of range.
    """

    store_dir: str
    resident_gib: float
    workers: int
    embeddings_dir: str
    embeddings_gib: float
    embedding_dtype: Literal["float32", "float16"]
    embedding_batch: int | None

    def __post_init__(self) -> None:
        for name in ("resident_gib", "workers", "embeddings_gib"):
            if getattr(self, name) < 0:
                raise ValueError(f"data.loading.{name} must be >= 0, but got {getattr(self, name)}")
        if self.embedding_batch is not None and self.embedding_batch < 1:
            raise ValueError(f"data.loading.embedding_batch must be null or >= 1, but got {self.embedding_batch}")
