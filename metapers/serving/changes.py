"""Whether a served user's preferences changed, and since which comparison they hold."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core.types import Array, Bool, Float, Params
from metapers.evaluation import change_points
from metapers.serving import profiles
from metapers.serving import questions as serving
from metapers.serving.profiles import History
from metapers.serving.questions import Questions

HAZARD = change_points.HAZARD
LEVEL = 0.9  # of being outdated, from which on a comparison is forgotten


class Changes(NamedTuple):
  """Since which of the comparisons kept the preferences of now hold, of one user or U.

  since: P(the preferences of now hold since comparison n), [*U, N] as `History.ids`. At the oldest
  that is no change: `history.ids[since.argmax()]` is the likeliest first comparison of now.
  outdated: P(comparison n is of earlier preferences), likewise; the older, the larger.
  """

  since: Float[np.ndarray, '*U N']
  outdated: Float[np.ndarray, '*U N']

  @property
  def probability(self) -> Float[np.ndarray, '*U']:
    """The chance that preferences changed at all since the oldest comparison kept."""
    return np.asarray(self.outdated[..., 0])


def find(
  ask: Questions, params: Params, history: History, context: np.ndarray, hazard: float
) -> Changes:
  """Returns when preferences changed: the posterior of `change_points`.

  Args:
    ask: functions of the learner.
    params: of the learner.
    history: of one user or many.
    context: of the same.
    hazard: chance of a change before each comparison.

  Raises:
    ValueError: for a hazard that is not at least 0 and below 1, or predictions that are not finite.
  """
  if not 0 <= hazard < 1:
    raise ValueError(f'hazard must be at least 0 and below 1, got {hazard}')
  many, size = history.ids.ndim - 1, history.ids.shape[-1]
  longest = int(history.mask.sum(-1).max(initial=0))
  kept = profiles.newest(history, min(serving.power_of_two(longest), size))
  foresee = functools.partial(serving.map_users, ask.foreseen, params)
  log_p = serving.for_one_or_many(foresee, serving.support_of(kept, context), many)
  if not np.isfinite(log_p).all():
    raise ValueError(
      'the learner gives no finite prediction of what was chosen: the features lie too far from '
      'those of training; check their units'
    )
  says = kept.mask & (kept.weight > 0)
  found = of_users(*(x if many else x[None] for x in (log_p, says)), hazard)
  padded = [(0, 0)] * many + [(0, size - says.shape[-1])]
  return Changes(*(np.pad(x if many else x[0], padded) for x in jax.device_get(found)))


@jax.jit
def of_users(
  log_p: Float[Array, 'U N N'], says: Bool[Array, 'U N'], hazard: float | Float[Array, '']
) -> tuple[Float[Array, 'U N'], Float[Array, 'U N']]:
  """Returns `Changes` of U users after all of their comparisons."""
  found = jax.vmap(change_points.posterior, (0, 0, None))(log_p, says, hazard).after[:, -1]
  return jnp.exp(found), change_points.outdated(found)


def without_outdated(history: History, found: Changes, level: float) -> History:
  """Returns the comparisons that are outdated with less than a probability; others are masked.

  Raises:
    ValueError: for a level that is not above 0 and at most 1.
  """
  if not 0 < level <= 1:
    raise ValueError(f'level must be above 0 and at most 1, a probability; got {level}')
  return history._replace(shown=history.shown & (found.outdated < level)[..., None])
