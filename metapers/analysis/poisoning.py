"""How many known users who lie cost new, honest ones accuracy."""

import numpy as np

from metapers.core.types import Float


def share_that_costs(
  shares: Float[np.ndarray, 'L'], losses: Float[np.ndarray, 'L'], cost: float
) -> float:
  """Returns the least share of liars at which a loss reaches `cost`, linear in between.

  Args:
    shares: of known users who lie, rising from 0.
    losses: of accuracy under each, in [0, 1]; the first is 0.
    cost: in the units of the losses.

  Returns:
    The share; inf where no loss that was measured is as large.

  Raises:
    ValueError: for shares that do not rise, or a cost that is not positive.
  """
  if not (np.diff(shares) > 0).all() or cost <= 0:
    raise ValueError(
      f'shares must rise and the cost be positive, got {np.asarray(shares).tolist()} and {cost}'
    )
  reached = np.flatnonzero(losses >= cost)
  if not reached.size:
    return float('inf')
  last = int(reached[0])
  if last == 0:
    return float(shares[0])
  window = slice(last - 1, last + 1)
  return float(np.interp(cost, losses[window], shares[window]))
