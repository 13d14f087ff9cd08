"""Bad inputs gathered into one error, so that a user can fix all of them at once."""

from dataclasses import dataclass, field

SHOWN = 20


@dataclass
class ErrorCollector:
    """Collects messages; each names its file and row."""

    messages: list[str] = field(default_factory=list)

    def add(self, message: str) -> None:
        self.messages.append(message)

    def add_at(self, where: str, message: str) -> None:
        """Add a problem of a place, which is named unless the message does so."""
        self.add(message if where in message else f"{where}: {message}")

    def raise_if_any(self) -> None:
        """Raise one ValueError that counts all problems and shows the first 20."""
        if not self.messages:
            return
        more = len(self.messages) - SHOWN
        tail = f"\n  ... and {more} more" if more > 0 else ""
        count = "1 problem" if len(self.messages) == 1 else f"{len(self.messages)} problems"
        raise ValueError(f"{count} in the input:\n  " + "\n  ".join(self.messages[:SHOWN]) + tail)
