"""The watch over a training: which updates to leave out, when to go back, and when to give up.

An update is left out where its loss or gradient is not finite, or where the loss is EXPLOSION times
the usual one. PATIENCE of these in a row, or SURFACE_PATIENCE steps without a pixel on the surface,
mean that the weights are no good: the training goes back to the last good checkpoint with SLOWER
times the learning rate. After MOST_ROLLBACKS of them it gives up. The watch is part of every
checkpoint, so all of this is the same for a run that was interrupted.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from common.training.readings import Reading

EXPLOSION = 100.0
MEMORY = 100  # steps that the usual loss is a mean over
# Colours in [0, 1] and gradients of length one make losses of order one: a loss below
# EXPLOSION times this is no explosion, however small it was before.
LEAST_USUAL = 0.01
PATIENCE = 5
FORGIVEN_AFTER = 10  # good steps make up for one that was left out
SURFACE_PATIENCE = 200
SLOWER = 0.5
MOST_ROLLBACKS = 3
SURFACE_SHARE = "surface_share"  # the note of a step that tells how many rays met the surface


@dataclass
class Watch:
    """What the steps so far say of a training's health."""

    usual: float | None = None  # loss, as a running mean over the good steps
    left_out: int = 0  # updates, in all
    strikes: int = 0  # FORGIVEN_AFTER for every update left out, less one for every good step
    unseen: int = 0  # steps in a row without a pixel on the surface
    rollbacks: int = 0
    rollbacks_here: int = 0  # since the last checkpoint that was kept
    wrong: str | None = None  # with the last update that was left out

    @property
    def slower(self) -> float:
        """Factor of the learning rate."""
        return SLOWER**self.rollbacks

    @property
    def calm(self) -> bool:
        """Whether nothing is wrong, so that a checkpoint of now is one to go back to."""
        return self.strikes == 0 and self.unseen == 0

    @property
    def lost(self) -> str | None:
        """Why the weights must be given up, if they must."""
        if self.strikes >= PATIENCE * FORGIVEN_AFTER:
            return self.wrong
        if self.unseen >= SURFACE_PATIENCE:
            return f"no ray inside the masks met the surface for {SURFACE_PATIENCE} iterations"
        return None

    def judge(self, reading: Reading, weights: Mapping[str, float]) -> str | None:
        """What is wrong with a step, so that its update must be left out; None: nothing."""
        self.unseen = self.unseen + 1 if reading.notes.get(SURFACE_SHARE) == 0 else 0
        wrong = _not_finite(reading) or self._explosion(reading, weights)
        if wrong:
            self.wrong = wrong
            self.strikes += FORGIVEN_AFTER
            self.left_out += 1
        else:
            self.strikes = max(0, self.strikes - 1)
            size = abs(reading.loss)
            usual = size if self.usual is None else self.usual
            # A loss that doubles with every step does not become usual.
            self.usual = usual + (min(size, 2 * max(usual, LEAST_USUAL)) - usual) / MEMORY
        return wrong

    def condemn(self) -> None:
        """Nothing but going back mends what the last step did."""
        self.strikes = PATIENCE * FORGIVEN_AFTER

    def end(self) -> None:
        """No good steps are to come that could make up for several left out."""
        if self.strikes > FORGIVEN_AFTER:
            self.condemn()

    def gone_back(self, then: "Watch") -> "Watch":
        """The watch after a rollback to the state that ``then`` watched over."""
        return replace(
            then,
            left_out=self.left_out,
            rollbacks=self.rollbacks + 1,
            rollbacks_here=self.rollbacks_here + 1,
        )

    def despair(self, steps_done: int) -> str | None:
        """Why going back would not help, and what may; None where it is worth trying."""
        if self.usual is None:
            return (
                "not one step was good. Likely the data are not: check pictures, depth and cameras "
                "for values that are not finite; or a loss weight is far too high"
            )
        if self.unseen >= steps_done:
            return (
                "no ray inside the masks has ever met the surface. Likely the cameras' frame is "
                "wrong: check scale_mat, and that masks and cameras belong together"
            )
        if self.rollbacks < MOST_ROLLBACKS:
            return None
        causes = (
            f"the learning rate was lowered {self.rollbacks} times, to {self.slower:g} of what was "
            "asked for, in vain. "
        )
        if self.unseen >= SURFACE_PATIENCE:
            return causes + (
                "Likely the losses on the masks drive the surface away: lower their weights or "
                "training.learning_rate, and check that masks and cameras belong together"
            )
        return causes + (
            "Likely causes: training.learning_rate is too high, gradients need "
            "training.clip_gradient or training.warmup, or some of the data are not finite"
        )

    def _explosion(self, reading: Reading, weights: Mapping[str, float]) -> str | None:
        if self.usual is None:
            return None
        times = abs(reading.loss) / max(self.usual, LEAST_USUAL)
        if times <= EXPLOSION:
            return None
        worst = max(reading.terms, key=lambda name: abs(weights[name] * reading.terms[name]))
        return (
            f"the loss term {worst} exploded to {reading.terms[worst]:.3g}, which makes the loss "
            f"{times:.0f} times the usual {self.usual:.3g}"
        )


def _not_finite(reading: Reading) -> str | None:
    terms = [name for name, value in reading.terms.items() if not math.isfinite(value)]
    if terms:
        return f"the loss term {', '.join(terms)} is not finite"
    if not math.isfinite(reading.loss):
        return "the loss is not finite"
    if not math.isfinite(reading.gradient_norm):
        return "the gradient is not finite"
    return None
