"""How the losses of a batch of users become one number; some objectives couple users."""

from typing import NamedTuple

import jax
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


def robust_personalization(share: float = 0.5, temperature: float = 0.5) -> Objective:
  """Returns MRM's objective, the mean of the users' losses, each by how bad it is among the batch.

  Σ_u w_u loss_u / T with w_u = σ((loss_u - q) / temperature), q the (1 - share) quantile of the
  losses; the gradient flows through w and q, too. Stateless.

  Args:
    share: ρ, of users whose losses count by more than half.
    temperature: γ, in nats; towards 0 all above q count in full and none below it.

  Raises:
    ValueError: for a share that is not in (0, 1), or a temperature that is not positive.

  Reference:
    Cai et al. 2026, "One Adapts to Any: Meta Reward Modeling" (SIGIR), the Robust Personalization
    Objective. Unlike there, the sum is divided by T, so that a learning rate does not depend on it.
  """
  if not 0 < share < 1:
    raise ValueError(f'share must be above 0 and below 1, got {share}')
  if temperature <= 0:
    raise ValueError(f'temperature must be positive, got {temperature}')

  def apply(losses, groups, state):
    del groups
    threshold = jnp.quantile(losses, 1 - share)
    weights = jax.nn.sigmoid((losses - threshold) / temperature)
    return jnp.mean(weights * losses), state

  return Objective(lambda: (), apply)


OBJECTIVES = {'mean': mean, 'cvar': cvar, 'robust_personalization': robust_personalization}
