"""The alarm: how far a user's comparisons speak for preferences from outside of a population."""

import math
from typing import NamedTuple

import jax
import numpy as np

from metapers.core.types import Array, Bool, Float, UserState

LEVEL = 0.05  # chance of ever raising the alarm for a user from inside, at most
LOG_THRESHOLD = math.log(1 / LEVEL)


class Surprise(NamedTuple):
  """The evidence ratio P(choices | outside) / P(choices | inside), prequential, of one user or U.

  Under users whose choices follow the members from inside the ratio is a non-negative martingale
  that starts at 1, so that it ever reaches 1/0.05 for at most 5 % of them (Ville's inequality),
  whenever one looks. That holds as far as the members from inside predict ordinary users, not
  beyond: where one from outside predicts them better, many more are flagged. Measure the share.

  log_ratio: after all comparisons, in nats. largest: at any moment so far, at least 0.

  Reference:
    Ville 1939, Étude critique de la notion de collectif; Shafer 2021 (JRSS A 184(2)), betting
    scores.
  """

  log_ratio: Float[Array, '*U']
  largest: Float[Array, '*U']

  @property
  def is_flagged(self) -> Bool[np.ndarray, '*U']:
    """True where the ratio has ever reached 1/0.05."""
    return np.asarray(np.asarray(self.largest) >= LOG_THRESHOLD)

  def probability(self, prevalence: float) -> Float[np.ndarray, '*U']:
    """Returns the posterior probability of being from outside, ρ R / (ρ R + 1 - ρ), R the ratio.

    Args:
      prevalence: ρ, the share of users from outside among those who come; the comparisons of one
        user say nothing of it.

    Raises:
      ValueError: for a share that is not between 0 and 1.
    """
    if not 0 < prevalence < 1:
      raise ValueError(f'prevalence must lie between 0 and 1, both excluded, got {prevalence}')
    log_odds = np.asarray(self.log_ratio, np.float64) + math.log(prevalence / (1 - prevalence))
    return np.asarray(np.exp(-np.logaddexp(0, -log_odds)))


def found_in(user_state: UserState, learner: str, ndim: int) -> Surprise:
  """Returns the surprise that a user state holds, of one user or U.

  Args:
    user_state: of any learner.
    learner: its name, for the message.
    ndim: 1 of U users, 0 of one; what has more axes is of parts of a user, such as stretches.

  Raises:
    ValueError: where it holds none.
  """
  nodes = jax.tree.leaves(user_state, is_leaf=lambda node: isinstance(node, Surprise))
  found = [x for x in nodes if isinstance(x, Surprise) and x.log_ratio.ndim == ndim]
  if not found:
    raise ValueError(
      f'{learner} weighs no members from outside of the population against those from inside, so '
      'it cannot say how surprising a user is; train hedge, with own_from or outside'
    )
  return found[-1]  # of a hedge the last one is its own, those before are of its members
