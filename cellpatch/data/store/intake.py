"""What happened to an input's cells: left out, joined or doubtful, each counted with its reason."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from cellpatch.runtime.json_types import Json

Contradictions = Literal["refuse", "drop", "keep"]  # of two classes of one cell


@dataclass
class Intake:
    """Counts by reason, filled while an input is read; a store's manifest keeps them.

    `left_out`: objects that are not cells of the store. `joined`: cells whose class name was changed to another
    spelling. `doubtful`: cells that are in the store as they were given and that somebody should look at.
    """

    left_out: Counter[str] = field(default_factory=Counter)
    joined: Counter[str] = field(default_factory=Counter)
    doubtful: Counter[str] = field(default_factory=Counter)

    def copy(self) -> "Intake":
        """The same counts, to go on counting."""
        return Intake(self.left_out.copy(), self.joined.copy(), self.doubtful.copy())

    def sentences(self) -> list[str]:
        """One line a reason, for a screen or a page."""
        kinds = {"left out": self.left_out, "joined": self.joined, "doubtful": self.doubtful}
        return [f"{kind}: {n} {reason}" for kind, counts in kinds.items() for reason, n in counts.items()]

    def as_json(self) -> Json:
        """The counts as a record stores them; `asdict` would count the pairs of a Counter."""
        return {"left_out": dict(self.left_out), "joined": dict(self.joined), "doubtful": dict(self.doubtful)}

    def totals(self) -> dict[str, int]:
        """The three sums, as columns of a table."""
        return {
            "left_out": self.left_out.total(),
            "joined": self.joined.total(),
            "doubtful": self.doubtful.total(),
        }
