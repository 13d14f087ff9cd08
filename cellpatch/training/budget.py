"""How long a training lasts: a number of updates, validated in equal rounds."""

from dataclasses import dataclass, replace

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
    drawn_batches: int | None = None

    @property
    def batches_drawn(self) -> int:
        """Batches that a round draws; it trains on the first `round_batches` of them."""
        return self.round_batches if self.drawn_batches is None else self.drawn_batches

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
    least. It is then validated up to `adapt.validations` times; a last round may be shorter. Raises ValueError if
    Lightning's settings leave nothing to train on, or no validation.
    """
    epoch_batches = -(-n_train // adaptation.batch_size)
    if trainer.max_epochs is not None:
        return _budget_of_passes(trainer, trainer.max_epochs, epoch_batches)
    updates = trainer.max_steps or max(adaptation.updates, adaptation.min_epochs * epoch_batches)
    round_batches = -(-updates // adaptation.validations)
    return Budget(epoch_batches, round_batches, -(-updates // round_batches), updates)


def _budget_of_passes(trainer: TrainerSettings, passes: int, epoch_batches: int) -> Budget:
    others = trainer.others
    trained = _trained_batches(others.get("limit_train_batches", 1.0), epoch_batches)
    accumulated = others.get("accumulate_grad_batches", 1)
    budget = Budget(epoch_batches, trained, passes, trainer.max_steps, accumulated, epoch_batches)
    every = others.get("check_val_every_n_epoch", 1)
    if budget.updates < replace(budget, rounds=every, max_updates=None).updates:
        raise ValueError(
            f"the training would end before its first validation, at trainer.max_steps={trainer.max_steps}: lower "
            f"trainer.check_val_every_n_epoch={every}"
        )
    return budget


def _trained_batches(limit: float, epoch_batches: int) -> int:
    """The batches of a pass that Lightning trains on; raises ValueError for none."""
    batches = min(limit, epoch_batches) if isinstance(limit, int) else int(limit * epoch_batches)
    if batches < 1:
        raise ValueError(f"trainer.limit_train_batches={limit} leaves none of {epoch_batches} batches of an epoch")
    return batches
