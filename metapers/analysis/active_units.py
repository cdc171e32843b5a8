"""Posterior collapse: how many dimensions of a latent user variable tell users apart.

Reference:
  Burda et al. 2016, arXiv:1509.00519, for the measure; Kim and Kim 2026 (swap-guided preference
  learning) for its use on users.
"""

import numpy as np

from metapers.core.types import Float

THRESHOLD = 0.01


def active_units(means: Float[np.ndarray, 'U Z'], *, threshold: float = THRESHOLD) -> float:
  """Returns the share of dimensions j with Var_u(μ_uj) > threshold, in [0, 1].

  Args:
    means: posterior means μ of at least two users, such as the `mean` of the states of `vpl`.
    threshold: variance over users above which a dimension counts as active.

  Raises:
    ValueError: for fewer than two users, or means that are not finite.
  """
  if len(means) < 2 or not means.shape[1]:
    raise ValueError(f'means must be [U, Z] of at least 2 users, got {means.shape}')
  if not np.isfinite(means).all():
    raise ValueError('means must be finite; some are NaN or infinite')
  return float(np.mean(np.var(means, 0, dtype=np.float64, ddof=1) > threshold))
