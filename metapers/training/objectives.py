"""How the losses of a batch of users become one number; some objectives couple users."""

from typing import NamedTuple

import jax.numpy as jnp

from metapers.core.types import Array, Callable, Float, Int, PyTree, Scalar


class Objective(NamedTuple):
  """How users' losses become one; `mean()` and the like make one.

  init: `() -> state`. apply: `(losses [T], groups [T], state) -> (scalar, state)`.

  `groups` are the users' rows among the known users; the state is carried from step to step.
  """

  init: Callable[[], PyTree]
  apply: Callable[[Float[Array, 'T'], Int[Array, 'T'], PyTree], tuple[Scalar, PyTree]]


def mean() -> Objective:
  """Returns the mean over users; stateless."""

  def apply(losses, groups, state):
    del groups
    return jnp.mean(losses), state

  return Objective(lambda: (), apply)


def cvar(share: float = 0.5) -> Objective:
  """Returns the conditional value at risk: the mean of the worst share of the users' losses.

  min_t { t + 1 / (share · T) Σ_u max(loss_u - t, 0) }; where share · T is not a whole number, the
  last of the worst users counts in part. Stateless; the share is of each batch.

  Args:
    share: 1 is the mean over all users, and towards 0 it is the worst user.

  Raises:
    ValueError: for a share that is not in (0, 1].

  Reference:
    Rockafellar and Uryasev 2000, Journal of Risk 2.
  """
  if not 0 < share <= 1:
    raise ValueError(f'share must be above 0 and at most 1, got {share}')

  def apply(losses, groups, state):
    del groups
    count = share * losses.size
    worst_first = jnp.sort(losses, descending=True)
    weights = jnp.clip(count - jnp.arange(losses.size), 0, 1) / count
    return jnp.sum(weights.astype(losses.dtype) * worst_first), state

  return Objective(lambda: (), apply)


OBJECTIVES = {'mean': mean, 'cvar': cvar}
