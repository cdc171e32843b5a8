"""Best of n: the pick of a personal reward among n candidates, and what it is worth.

    picks = best_of.picks(utilities, sizes=(1, 2, 4, 8), caution=0.5)     # [L, ...]

The pick is the largest mean minus c standard deviations of the posterior: a mean alone is drawn to
candidates of which little is known, the more so the more there are.
"""

from collections.abc import Sequence

import numpy as np

from metapers.core.types import Float, Int


def cautious(
  utilities: Float[np.ndarray, 'S *batch'], caution: float
) -> Float[np.ndarray, '*batch']:
  """Returns mean - c sd over draws, c = `caution`."""
  return utilities.mean(0) - caution * utilities.std(0)


def picks(
  values: Float[np.ndarray, '*batch n'], sizes: Sequence[int]
) -> Int[np.ndarray, 'L *batch']:
  """Returns the largest of the first 1, 2, 4, ... candidates, for each of the L sizes.

  Raises:
    ValueError: for a size that is not in 1..n.
  """
  most = values.shape[-1]
  if not sizes or min(sizes) < 1 or max(sizes) > most:
    raise ValueError(f'sizes must lie in 1..{most}, the candidates that there are; got {sizes}')
  return np.stack([values[..., :size].argmax(-1) for size in sizes])


def divergence(size: int) -> float:
  """Returns log n - (n - 1)/n, in nats: how far best of n is from one draw, at most.

  Reference:
    Beirami et al. 2024, arXiv:2401.01879: an upper bound, exact where no two candidates are alike.
  """
  return float(np.log(size) - (size - 1) / size)
