"""How the losses of a batch of users become one number; some objectives couple users."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core.types import Array, Callable, Float, Int, PyTree, Scalar


class Objective(NamedTuple):
  """How users' losses become one; `mean()` and the like make one.

  init: `(num_groups) -> state`, which is carried from step to step.
  apply: `(losses [T], groups [T], state) -> (scalar, state)`; groups as in `core.user_groups`, 0 of
    all users where there are none. has_groups: whether it reads them.
  """

  init: Callable[[int], PyTree]
  apply: Callable[[Float[Array, 'T'], Int[Array, 'T'], PyTree], tuple[Scalar, PyTree]]
  has_groups: bool = False


def stateless(num_groups: int) -> PyTree:
  """Returns no state."""
  del num_groups
  return ()


def mean() -> Objective:
  """Returns the mean over users; stateless."""

  def apply(losses, groups, state):
    del groups
    return jnp.mean(losses), state

  return Objective(stateless, apply)


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

  return Objective(stateless, apply)


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

  return Objective(stateless, apply)


def group_dro(step_size: float = 0.01) -> Objective:
  """Returns group DRO: the groups' mean losses, weighted by how bad each has been until now.

    q_g ← q_g exp(η L_g) / Σ_h q_h exp(η L_h),   value = Σ_g q_g L_g,

  L_g the mean loss of the batch's users of group g, 0 of a group that the batch misses. The state
  is log q [G], equal at the start; no gradient flows through q.

  Args:
    step_size: η, per nat; the paper's 0.01. With 0 all groups count alike.

  Raises:
    ValueError: for a step size that is negative or not finite.

  Reference:
    Sagawa et al. 2020, arXiv:1911.08731, Algorithm 1, by batches as in its code. Unlike the paper,
    without the adjustment C / √n_g for the sizes of the groups.
  """
  _check_rate('step_size', step_size)

  def init(num_groups):
    return jnp.full(num_groups, -jnp.log(num_groups), jnp.float32)

  def apply(losses, groups, state):
    total, count = (
      jax.ops.segment_sum(x, groups, num_segments=state.size)
      for x in (losses, jnp.ones_like(losses))
    )
    of_group = total / jnp.maximum(count, 1)
    log_q = jax.nn.log_softmax(state + step_size * jax.lax.stop_gradient(of_group))
    return jnp.exp(log_q) @ of_group, log_q

  return Objective(init, apply, has_groups=True)


def group_invariant(penalty: float = 10.0) -> Objective:
  """Returns V-REx over groups of users: the mean of the groups' losses, and how far they differ.

    value = mean_g L_g + β Var_g L_g,

  L_g the mean loss of the batch's users of group g, over the groups that the batch holds. The
  variance counts the noise of small groups too: batches should hold several users of each.
  Stateless.

  Args:
    penalty: β, per nat; 0 counts all groups alike, a large one asks for equal losses.

  Raises:
    ValueError: for a penalty that is negative or not finite.

  Reference:
    Krueger et al. 2021, arXiv:2003.00688, equation 8. Unlike the paper, the mean of the losses
    stands for their sum, and β is the same from the first step on.
  """
  _check_rate('penalty', penalty)

  def apply(losses, groups, state):
    is_same = (groups[:, None] == groups[None]).astype(losses.dtype)
    size = is_same.sum(-1)  # of each user's group
    of_group = is_same @ losses / size  # [T]
    share = (1 / size) / jnp.sum(1 / size)  # of each user: groups count alike
    mean = share @ of_group
    return mean + penalty * (share @ jnp.square(of_group - mean)), state

  return Objective(stateless, apply, has_groups=True)


def _check_rate(name: str, value: float) -> None:
  if not 0 <= value < float('inf'):
    raise ValueError(f'{name} must be at least 0 and finite, got {value}')


OBJECTIVES = {
  'mean': mean,
  'cvar': cvar,
  'robust_personalization': robust_personalization,
  'group_dro': group_dro,
  'group_invariant': group_invariant,
}
