"""What personalisation costs, and what is kept of a user: parameters, bytes, time, active units."""

import functools
import statistics
import time
from typing import NamedTuple

import jax
import numpy as np

from metapers.analysis import active_units
from metapers.core.meta_learner import MetaLearner
from metapers.core.task import Task
from metapers.core.types import Array, Key, Params, PRNGKey, PyTree, UserState


class Costs(NamedTuple):
  """Costs of one learner.

  num_parameters: shared by all users, banks of `prepare` included. state_bytes: of one user.
  microseconds: to adapt one user, as part of a batch. batch_size: users adapted at once.
  num_comparisons: N of each user's support. device: what it was measured on. active_units: the
  share of the posterior mean's dimensions that tell these users apart, where a state has a `mean`.
  """

  num_parameters: int
  state_bytes: int
  microseconds: float
  batch_size: int
  num_comparisons: int
  device: str
  active_units: float | None = None


def measure(
  learner: MetaLearner,
  params: Params,
  tasks: Task,
  *,
  batch_size: int = 64,
  num_calls: int = 9,
  key: PRNGKey,
) -> Costs:
  """Returns what a learner costs, measured on the first `batch_size` of some users.

  The time is the median of several calls after compilation, each waited for, over the batch: how
  fast users are served when many come at once, not how long a single one waits.

  Args:
    learner: compiled for the batch.
    params: of the learner, prepared.
    tasks: T users with all their support.
    batch_size: users adapted at once; all of them where there are fewer.
    num_calls: timed.
    key: PRNG key.

  Raises:
    ValueError: for no users or no calls.
  """
  size = min(batch_size, len(tasks.user))
  if size < 1 or num_calls < 1:
    raise ValueError(f'nothing to time: {size} users, {num_calls} calls; give at least 1 of both')
  batch = jax.device_put(jax.tree.map(lambda x: x[:size], jax.device_get(tasks)))
  keys = jax.random.split(key, size)
  states = jax.block_until_ready(adapt(learner, params, batch, keys))
  seconds = [time_once(learner, params, batch, keys) for _ in range(num_calls)]
  return Costs(
    num_parameters=sum(leaf.size for leaf in jax.tree.leaves(params)),
    state_bytes=num_bytes(states) // size,
    microseconds=1e6 * statistics.median(seconds) / size,
    batch_size=size,
    num_comparisons=tasks.support.choice.shape[-1],
    device=jax.devices()[0].device_kind,
    active_units=active_share(states),
  )


def active_share(states: UserState) -> float | None:
  """Returns the share of active units of states with a `mean` [T, Z]; None of others, or of one."""
  means = getattr(states, 'mean', None)
  is_of_users = isinstance(means, jax.Array) and means.ndim == 2 and len(means) > 1
  return active_units.active_units(np.asarray(means)) if is_of_users else None


@functools.partial(jax.jit, static_argnums=0)
def adapt(learner: MetaLearner, params: Params, tasks: Task, keys: Key[Array, 'T']) -> UserState:
  """Returns the states of T users, adapted to at once with a key each."""
  return jax.vmap(learner.adapt, (None, 0, 0, 0))(params, tasks.support, tasks.context, keys)


def time_once(learner: MetaLearner, params: Params, tasks: Task, keys: Key[Array, 'T']) -> float:
  """Returns the seconds that one call of `adapt` takes until its result is there."""
  start = time.perf_counter()
  jax.block_until_ready(adapt(learner, params, tasks, keys))
  return time.perf_counter() - start


def num_bytes(tree: PyTree) -> int:
  """Returns the number of bytes of the arrays of a tree."""
  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
