"""When to stop asking: how sure it is which candidate of a pool a user likes best."""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from metapers.core import masked
from metapers.core.population import HostOrDevice
from metapers.core.types import Array, Bool, Float, Int
from metapers.evaluation import intervals


class Standing(NamedTuple):
  """How sure it is which of R candidates a user likes best, under a posterior.

  best: index of the highest expected utility. probability: that no other is liked better.
  regret: expected utility lost by taking it, in logits.
  """

  best: Int[HostOrDevice, '*batch']
  probability: Float[HostOrDevice, '*batch']
  regret: Float[HostOrDevice, '*batch']


def half_of_share(share: float, count: int) -> float:
  """Returns half a 95 % interval of a share of `count` people; at 0 and 1 by the rule of three."""
  if 0 < share < 1:
    return intervals.NORMAL * math.sqrt(share * (1 - share) / count)
  return min(3 / max(count, 1), 1.0)


def standing(
  scores: Float[Array, 'R'], utilities: Float[Array, 'S R'], mask: Bool[Array, 'R']
) -> Standing:
  """Returns P(u_best = max_r u_r) and E[max_r u_r - u_best] for best = argmax_r of the scores.

  Both are means over S draws: the probability is a multiple of 1/S with a standard error of up to
  1/(2 √S), and 1 says that no draw disagrees. Noiseless choices have very large utilities, and so
  is their regret; the probability knows no unit.

  Args:
    scores: [R] expected utilities.
    utilities: [S, R] draws from the posterior, in logits.
    mask: [R] True where a candidate is real.

  Reference:
    Russo 2020, arXiv:1602.08448 (the probability of the best arm, and when it is known enough).
  """
  best = masked.argmax(scores, mask)
  lost = masked.largest(utilities, jnp.broadcast_to(mask, utilities.shape)) - utilities[:, best]
  return Standing(best, jnp.mean(lost <= 0, dtype=utilities.dtype), jnp.mean(lost))


def stops(probability: Float[np.ndarray, 'L *batch'], level: float) -> Int[np.ndarray, '*batch']:
  """Returns after how many questions a level is first reached; L where it never is."""
  reached = probability >= level
  return np.where(reached.any(0), reached.argmax(0), len(reached))
