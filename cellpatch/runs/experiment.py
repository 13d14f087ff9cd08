"""One run before it is trained: its parts, built and checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cellpatch.data.augment import AlbumentationsAugment, DeviceAugment
from cellpatch.data.dataset import DataSpec
from cellpatch.data.store.reader import Geometry
from cellpatch.models.spec import ModelSpec
from cellpatch.optics.conditions import OpticsSettings
from cellpatch.optics.operator import OpticalPath
from cellpatch.probing.probes import Probe
from cellpatch.runs.settings import Settings
from cellpatch.runs.tracking.settings import TrackerSettings
from cellpatch.runtime.device import inference_batch_size
from cellpatch.training.adaptation import FineTuning
from cellpatch.training.trainer_settings import TrainerSettings


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What `config.assemble` makes of a config; below it nothing sees a dict.

    `settings` is what the record will state. `teacher` is the model whose features a distillation regresses. Device,
    batch size and the optical path are decided here, once.
    """

    settings: Settings
    model: ModelSpec
    data: DataSpec
    adaptation: FineTuning | Probe
    augment: DeviceAugment | AlbumentationsAugment | None
    optics: OpticsSettings
    trainer: TrainerSettings
    trackers: Sequence[TrackerSettings]
    runs_dir: Path
    retry_failed: bool
    dry_run: bool
    teacher: ModelSpec | None = None

    @property
    def flag_limit(self) -> int:
        return self.settings.flag_limit

    @property
    def seed(self) -> int:
        return self.settings.seed

    @property
    def inference_batch(self) -> int:
        """Cells per batch where nothing is trained."""
        return self.data.loading.embedding_batch or inference_batch_size(self.model.input_px, self.trainer.device)

    def path(self, geometry: Geometry) -> OpticalPath:
        """The way from stored crops of a geometry to the model's input."""
        return OpticalPath(
            geometry.crop_px, geometry.margin_px, self.model.input_px, self.optics.via_px, self.optics.resize
        )
