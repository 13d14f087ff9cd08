"""What trackers need of a run before it is trained."""

from dataclasses import dataclass
from pathlib import Path

from cellpatch.runs.settings import Settings


@dataclass(frozen=True)
class About:
    """What is known of a run before it is trained: its folder's name, its identity, its settings.

    `folder` is where trackers write their files, `runs_dir` the folder of finished runs. `anew` states that the whole
    run is shown, not what came to it later.
    """

    run: str
    identity: str
    settings: Settings
    folder: Path
    runs_dir: Path
    anew: bool

    @property
    def group(self) -> str:
        """The experiment's name, else that of the data: what several commands of one grid share."""
        return str(self.settings.config.get("experiment") or self.settings.data.name)

    @property
    def tags(self) -> list[str]:
        """Model, adaptation, data and limit, of at most 64 characters each."""
        settings = self.settings
        words = (settings.model.name, settings.adapt.label, settings.data.name, f"flag_limit={settings.flag_limit}")
        return [word[:64] for word in words]
