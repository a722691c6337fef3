"""The optimiser of section 4.2: Adam with coupled weight decay, and step decay of the learning rate."""

import optax
from ml_collections import ConfigDict


def learning_rate(settings: ConfigDict, steps_per_epoch: int) -> optax.Schedule:
    """Learning rate as a function of the number of finished steps, a NumPy or JAX number; constant within an epoch.

    `milestones` are the epochs after which it is multiplied by `gamma`; `warmup_epochs` (0: none) begin at the share
    `warmup_factor` of the rate, and rise linearly.
    """

    def rate(step):
        epoch = step // steps_per_epoch
        decay = settings.gamma ** sum(epoch >= milestone for milestone in settings.milestones)  # the rate falls here
        if not settings.warmup_epochs:
            return settings.learning_rate * decay
        progress = (epoch / settings.warmup_epochs).clip(max=1.0)  # of a NumPy number no device is asked
        return settings.learning_rate * decay * (settings.warmup_factor + (1 - settings.warmup_factor) * progress)

    return rate


def create(settings: ConfigDict, steps_per_epoch: int) -> optax.GradientTransformation:
    """Adam with L2 regularisation added to the gradient (not AdamW), all parameters in one group."""
    return optax.chain(
        optax.add_decayed_weights(settings.weight_decay),
        optax.scale_by_adam(),
        optax.scale_by_learning_rate(learning_rate(settings, steps_per_epoch)),
    )
