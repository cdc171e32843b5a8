"""The adaptation curve: what a learner predicts for new users after 0, 1, 2, ... comparisons."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from metapers.core import batches, task
from metapers.core.meta_learner import MetaLearner
from metapers.core.population import Population
from metapers.core.task import Candidates, Choices, Task, Truth
from metapers.core.types import Array, Context, Int, Params, PRNGKey, UserState
from metapers.evaluation.predictions import Predictions


def episodes(
  population: Population, *, split: str, num_users: int, chunk_size: int = 256
) -> tuple[Task, Truth | None]:
  """Returns the fixed episodes of users 0..num_users-1 of a split.

  Args:
    population: its `episode_of` gives the same bits for the same user and split.
    split: one of `core.population.SPLITS`, or SEEN.
    num_users: T.
    chunk_size: users drawn at once; bounds the memory.

  Returns:
    Task and Truth (None for real people) with a leading T.

  Raises:
    ValueError: for fewer than one user, or more than the split holds.
  """
  sizes = {'train': population.spec.num_users, **population.spec.num_held_out}
  if not 1 <= num_users <= sizes.get(split, 0):
    held = ', '.join(f'{name} {size}' for name, size in sizes.items())
    raise ValueError(
      f'{num_users} users of split {split!r} asked for; there are: {held}. Ask for 1 to as many'
    )
  return _collect(population.episode_of, population.arrays, split, num_users, chunk_size)


@functools.partial(jax.jit, static_argnums=(0, 2, 3, 4))
def _collect(episode_of, arrays, split, num_users, chunk_size):
  return batches.map_chunks(lambda user: episode_of(arrays, user, split), num_users, chunk_size)


def evaluate(
  learner: MetaLearner,
  params: Params,
  tasks: Task,
  truth: Truth | None = None,
  *,
  shots: Sequence[int],
  window: int = 0,
  chunk_size: int = 64,
  key: PRNGKey,
) -> Predictions:
  """Returns predictions for every user after their first k comparisons, for every k, in one call.

  A user with fewer than k real comparisons in the support uses all there are. Of `truth` only the
  slates' features are shown to the learner. A learner with `update` reads each support once, one
  comparison after another, unless a window makes it forget.

  Args:
    learner: compiled once for its functions and the shapes; neither params nor the numbers of
      shots compile it anew.
    params: of the learner.
    tasks: T users, [T, ...].
    truth: gives the slates to score; None (real people) gives slate scores of shape [L, T, 0, 0].
    shots: L numbers of support comparisons; 0 is zero-shot.
    window: how many of these are remembered, the last ones; 0 remembers all.
    chunk_size: adaptations done at once, of the L * T (of the T with `update`); bounds the memory.
    key: user t adapts with `fold_in(key, t)`, the same at every number of shots.

  Returns:
    Predictions for the query and the slates, [L, T, ...].

  Raises:
    ValueError: without shots, or for shots below 0 or beyond the support's size.
  """
  size = tasks.support.choice.shape[-1]
  if not shots or min(shots) < 0 or max(shots) > size:
    raise ValueError(
      f'shots must lie in 0..{size}, what the support of an episode holds; got {list(shots)}. '
      'Lower the shots or raise num_support of the population'
    )
  slate = no_slates(tasks) if truth is None else truth.slate
  counts = jnp.asarray(shots, jnp.int32)
  if learner.update is not None and not window:
    return _evaluate_in_one_pass(learner, params, tasks, slate, counts, chunk_size, key)
  return _evaluate(learner, params, tasks, slate, counts, window, chunk_size, key)


def no_slates(tasks: Task) -> Candidates:
  """Returns slates of no responses, for users whose utilities nobody knows: [T, 0, 0, ...]."""
  shown = tasks.query.candidates
  empty = (shown.mask.shape[0], 0, 0)
  features = jax.tree.map(lambda x: jnp.zeros((*empty, *x.shape[3:]), x.dtype), shown.features)
  return Candidates(features, jnp.zeros(empty, bool))


def state_without_support(
  learner: MetaLearner, params: Params, support: Choices, context: Context, key: PRNGKey
) -> UserState:
  """Returns the state of a user before any comparison, for `MetaLearner.update` to go on from.

  Args:
    learner: with `update`.
    params: of the learner.
    support: [N, ...], of which only the shapes matter.
    context: of the user.
    key: the same that `update` gets.
  """
  one = jax.tree.map(lambda x: x[:1], support)
  return learner.adapt(params, task.with_shots(one, 0), context, key)


@functools.partial(jax.jit, static_argnums=(0, 5, 6))
def _evaluate(
  learner: MetaLearner,
  params: Params,
  tasks: Task,
  slate: Candidates,
  shots: Int[Array, 'L'],
  window: int,
  chunk_size: int,
  key: PRNGKey,
) -> Predictions:
  num_users = tasks.user.shape[0]

  def predict(index: Int[Array, '']) -> Predictions:
    user = index % num_users
    person, shown = task.take((tasks, slate), user)
    support = task.latest(person.support, shots[index // num_users], window)
    state = learner.adapt(params, support, person.context, jax.random.fold_in(key, user))
    log_probs = learner.predict(params, state, person.query.candidates)
    return Predictions(log_probs, learner.score(params, state, shown))

  # One flat axis of (shots, user) pairs, so that chunk_size bounds all that is alive at once.
  flat = batches.map_chunks(predict, shots.size * num_users, chunk_size)
  return jax.tree.map(lambda x: x.reshape(shots.size, num_users, *x.shape[1:]), flat)


@functools.partial(jax.jit, static_argnums=(0, 5))
def _evaluate_in_one_pass(
  learner: MetaLearner,
  params: Params,
  tasks: Task,
  slate: Candidates,
  shots: Int[Array, 'L'],
  chunk_size: int,
  key: PRNGKey,
) -> Predictions:
  order, update = jnp.argsort(shots), learner.update
  assert update is not None

  def predict(user: Int[Array, '']) -> Predictions:
    person, shown = task.take((tasks, slate), user)
    # Real ones first: comparison n is then the same position of all users, and `vmap` over users
    # leaves the loops below as they are.
    support = task.take(person.support, jnp.argsort(~person.support.mask, stable=True))
    given = person.context, jax.random.fold_in(key, user)

    def add(n, state):
      return update(params, state, task.take(support, n[None]), *given)

    def go_on(carry, count):
      state = jax.lax.fori_loop(carry[1], count, add, carry[0])
      log_probs = learner.predict(params, state, person.query.candidates)
      return (state, count), Predictions(log_probs, learner.score(params, state, shown))

    start = state_without_support(learner, params, support, *given)
    return jax.lax.scan(go_on, (start, jnp.zeros_like(shots[0])), shots[order])[1]

  made = batches.map_chunks(predict, tasks.user.shape[0], chunk_size)  # [T, L, ...]
  return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1)[jnp.argsort(order)], made)
