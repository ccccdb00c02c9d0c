"""Learning rate as a function of the iteration alone, so that resuming needs no state."""

import math

from common.config import TrainingConfig


def learning_rate(config: TrainingConfig, step: int) -> float:
    """The rate of the given step (0-based): linear warm-up, then the configured decay."""
    rate = config.learning_rate
    if step < config.warmup:
        return rate * (step + 1) / config.warmup
    if config.decay == "steps":
        passed = (step >= iteration_of(at, config.iterations) for at in config.milestones)
        return rate * config.decay_factor ** sum(passed)
    if config.decay == "cosine":
        done = (step - config.warmup) / max(config.iterations - config.warmup, 1)
        return rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    return rate


def iteration_of(milestone: float, iterations: int) -> int:
    """The iteration that a milestone means: itself, or below 1 that share of the run."""
    return round(milestone * iterations) if milestone < 1 else round(milestone)
