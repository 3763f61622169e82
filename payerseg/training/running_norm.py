"""Adam with the reference's gradient clipping: relative to a running mean of the gradient's norm."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

KEEP = 0.99


@keras.saving.register_keras_serializable("payerseg")
class RunningNormAdam(keras.optimizers.Adam):
    """Adam whose gradients are clipped at a factor times their running norm.

    n <- 0.99 n + 0.01 min(|g|, clip), clip = factor * n, only when |g| is finite (REFERENCE.md
    section 6); a step whose gradient is not finite changes nothing.

    Args:
        learning_rate: of Adam.
        amsgrad: of Adam.
        clip_factor: 5 in stage 1, 2 in stages 2 and 3.
        first_norm: 10 in stages 1 and 2, 1 in stage 3.
        name: of the optimiser.
    """

    def __init__(
        self,
        learning_rate: float = 1e-4,
        *,
        amsgrad: bool = False,
        clip_factor: float = 2.0,
        first_norm: float = 10.0,
        name: str = "running_norm_adam",
    ) -> None:
        super().__init__(learning_rate, amsgrad=amsgrad, name=name)
        self.clip_factor = clip_factor
        self.first_norm = first_norm

    def build(self, variables: list) -> None:
        """Add the running norm to Adam's own state."""
        if not self.built:
            self.running_norm = self.add_variable(
                shape=(), initializer=keras.initializers.Constant(self.first_norm), name="norm"
            )
        super().build(variables)

    def apply(self, grads: list, trainable_variables: list | None = None) -> Any:
        """Clip, remember the norm, and step."""
        if not self.built:
            self.build(trainable_variables or [])
        total = sum(ops.sum(ops.square(ops.cast(g, "float32"))) for g in grads if g is not None)
        norm = ops.sqrt(total)
        finite = ops.isfinite(norm)
        before = ops.convert_to_tensor(self.running_norm)
        clip = self.clip_factor * before
        seen = ops.where(finite, ops.minimum(norm, clip), before)
        scale = ops.where(finite, ops.minimum(1.0, clip / ops.maximum(norm, 1e-12)), 0.0)
        self.assign(self.running_norm, KEEP * before + (1 - KEEP) * seen)
        clipped = [
            None
            if g is None
            else ops.where(finite, g, ops.zeros_like(g)) * ops.cast(scale, g.dtype)
            for g in grads
        ]
        return super().apply(clipped, trainable_variables)

    def get_config(self) -> dict[str, Any]:
        """Return what builds this optimiser again."""
        return {
            "learning_rate": float(ops.convert_to_numpy(self.learning_rate)),
            "amsgrad": self.amsgrad,
            "clip_factor": self.clip_factor,
            "first_norm": self.first_norm,
            "name": self.name,
        }
