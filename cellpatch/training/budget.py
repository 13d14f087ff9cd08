"""How long a training lasts: a number of updates, validated in equal rounds."""

from dataclasses import dataclass

from cellpatch.training.adaptation import FineTuning
from cellpatch.training.trainer_settings import TrainerSettings


@dataclass(frozen=True)
class Budget:
    """`rounds` of `round_batches` batches, each round validated at its end; an epoch (a pass) has `epoch_batches`.

    Training stops after `max_updates`, within the last round if need be; None is no such limit. An update takes
    `accumulated` batches, fewer at the end of a round.
    """

    epoch_batches: int
    round_batches: int
    rounds: int
    max_updates: int | None
    accumulated: int = 1

    @property
    def _round_updates(self) -> int:
        return -(-self.round_batches // self.accumulated)

    @property
    def updates(self) -> int:
        """Planned updates, if early stopping does not end the training before."""
        whole = self.rounds * self._round_updates
        return whole if self.max_updates is None else min(whole, self.max_updates)

    @property
    def epochs(self) -> float:
        """Planned passes through the training cells."""
        return self.updates / self._round_updates * self.round_batches / self.epoch_batches


def plan_budget(adaptation: FineTuning, trainer: TrainerSettings, n_train: int) -> Budget:
    """The budget of a training on `n_train` cells.

    `trainer.max_epochs` counts passes, each one validated; `trainer.max_steps` ends them if it comes first. Without
    `max_epochs` the budget is `trainer.max_steps`, and without both `adapt.updates`, but `adapt.min_epochs` passes at
    least. It is then validated up to `adapt.validations` times; a last round may be shorter.
    """
    epoch_batches = -(-n_train // adaptation.batch_size)
    if trainer.max_epochs is not None:
        accumulated = trainer.others.get("accumulate_grad_batches", 1)
        return Budget(epoch_batches, epoch_batches, trainer.max_epochs, trainer.max_steps, accumulated)
    updates = trainer.max_steps or max(adaptation.updates, adaptation.min_epochs * epoch_batches)
    round_batches = -(-updates // adaptation.validations)
    return Budget(epoch_batches, round_batches, -(-updates // round_batches), updates)
