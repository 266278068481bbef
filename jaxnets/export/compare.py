"""Whether two answers to the same images are the same, up to rounding."""

from typing import NamedTuple

import numpy as np

BOUND, INT8_BOUND = 1e-4, 0.05


class Comparison(NamedTuple):
    """Two answers side by side, the first of which is taken to be right."""

    images: int
    largest: float
    """The largest difference of logits, relative to the largest logit."""
    probabilities: float
    """The largest difference of probabilities."""
    agreeing: int
    """Images with the same prediction."""
    ties: int
    """Of the others, those whose two logits are no further apart than the bound."""
    bound: float = BOUND

    @property
    def holds(self) -> bool:
        """Whether they are the same but for rounding; never where one is not a number."""
        same = self.agreeing + self.ties == self.images
        return self.largest <= self.bound and self.probabilities <= self.bound and same

    def __str__(self) -> str:
        ties = f" ({self.ties} ties)" if self.ties else ""
        return (
            f"largest difference {self.largest:.1e} of the logits, {self.probabilities:.1e} of "
            f"the probabilities; {self.agreeing} of {self.images} predictions the same{ties}"
        )


def compare(
    right: np.ndarray,
    logits: np.ndarray,
    probabilities: np.ndarray | None = None,
    bound: float = BOUND,
) -> Comparison:
    """Logits (N, K), and probabilities if there are any, against the right logits."""
    right = right.astype(np.float64)
    if logits.shape != right.shape:
        raise ValueError(f"logits of shape {logits.shape}, not {right.shape}")
    scale = float(np.abs(right).max()) or 1.0
    largest = float(np.abs(logits - right).max()) / scale
    apart = 0.0
    if probabilities is not None:
        apart = float(np.abs(probabilities - softmax(right)).max())
    rows = np.arange(len(right))
    ours, theirs = right.argmax(1), logits.argmax(1)
    near = right[rows, ours] - right[rows, theirs] <= bound * scale
    return Comparison(
        images=len(right),
        largest=largest,
        probabilities=apart,
        agreeing=int((ours == theirs).sum()),
        ties=int(((ours != theirs) & near).sum()),
        bound=bound,
    )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities, float64 (N, K), of logits (N, K)."""
    raised = np.exp(logits - logits.max(-1, keepdims=True), dtype=np.float64)
    return raised / raised.sum(-1, keepdims=True)
