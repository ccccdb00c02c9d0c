"""Learning rate as a function of the iteration alone, so that resuming needs no state."""

import math

from common.config import TrainingConfig


def learning_rate(config: TrainingConfig, step: int) -> float:
    """The rate of the given step (0-based): linear warm-up, then the configured decay."""
    rate = config.learning_rate
    if step < config.warmup:
        return rate * (step + 1) / config.warmup
    if config.decay == "steps":
        return rate * config.decay_factor ** sum(step >= at for at in config.milestones)
    if config.decay == "cosine":
        done = (step - config.warmup) / max(config.iterations - config.warmup, 1)
        return rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    return rate
