"""What a trained learner answers about users, for many at once: host arrays in, host arrays out."""

import functools
import math
import numbers
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core import batches, choice_model, task
from metapers.core.meta_learner import MetaLearner
from metapers.core.task import Candidates, Choices
from metapers.core.types import Any, Array, Bool, Callable, Float, Params, PyTree, UserState
from metapers.evaluation import acquisition, change_points, stopping
from metapers.serving.profiles import History

USERS_PER_CALL = 4096  # bounds the memory that a million users take on the device
CHUNK_SIZE = 64
LARGE = 1e4  # entries of a state that overflow in no network of a few layers, and that few exceed
# For a message, which shall import no learner.
WITH_POSTERIOR = (
  'as_pairs', 'bayes_head', 'dirichlet_mixture', 'empirical_bayes', 'gaussian_prior', 'hedge',
  'latent_np', 'lookup', 'pairwise_gp', 'particle', 'pfn', 'resetting', 'spl', 'vpl',
)  # fmt: skip


class Support(NamedTuple):
  """What a learner adapts to: the comparisons and the context of one user.

  features: [N, K, D], of any float type.
  shown: [N, K], which candidates are real; where none is, there is no comparison.
  choice: [N]. weight: [N]. context: [C].
  """

  features: Any
  shown: Any
  choice: Any
  weight: Any
  context: Any


class Query(NamedTuple):
  """What is predicted of one user: their state, and candidates [N, K, D] that are all real.

  is_given: [N], False for what pads N; None where nothing does.
  """

  user_state: Any
  features: Any
  is_given: Any = None


class Questions(NamedTuple):
  """Pure functions `(params, ...) -> array` of a learner for ONE user; `questions` makes them.

  adapt: `(params, support) -> user_state`; every user has the same key, so that a state is a
    function of the comparisons and the context.
  score: `(params, query) -> [N, K]` utilities.
  probability: `(params, query) -> [N, K]` choice probabilities.
  spread: `(params, query) -> [N, K]` standard deviation of those under the posterior.
  information: `(params, query) -> [N]` mutual information of the choice and the user, in nats.
  batch: count -> `(params, query) -> [N]`, where each stands among `count` questions to be asked
    together, from 0; N where it does not. The same function for the same count.
  standing: `(params, query) -> [N, 2]`, the probability that the best of K is the best, and the
    regret, see `stopping.standing`.
  foreseen: `(params, support) -> [N, N]` log-probability of each choice n given the choices from m
    to n - 1, by m and n, see `change_points.chosen`.
  """

  adapt: Callable[[Params, Support], UserState]
  score: Callable[[Params, Query], Array]
  probability: Callable[[Params, Query], Array]
  spread: Callable[[Params, Query], Array]
  information: Callable[[Params, Query], Array]
  batch: Callable[[int], Callable[[Params, Query], Array]]
  standing: Callable[[Params, Query], Array]
  foreseen: Callable[[Params, Support], Array]


def questions(learner: MetaLearner) -> Questions:
  """Returns the functions that serve a learner."""

  def adapt(params, support):
    return learner.adapt(params, choices_of(support), support.context, jax.random.key(0))

  def score(params, query):
    return learner.score(params, query.user_state, all_real(query.features))

  def probability(params, query):
    return jnp.exp(learner.predict(params, query.user_state, all_real(query.features)))

  def sampled(params, query):
    candidates = all_real(query.features)
    scores = learner.sample(params, query.user_state, candidates)
    return jax.vmap(choice_model.log_probs, (0, None))(scores, candidates.mask)  # [S, N, K]

  def spread(params, query):
    return jnp.std(jnp.exp(sampled(params, query)), 0)

  def information(params, query):
    return acquisition.mutual_information(sampled(params, query))

  def standing(params, query):
    candidates = all_real(query.features)
    scores = learner.score(params, query.user_state, candidates)
    drawn = learner.sample(params, query.user_state, candidates)  # [S, N, K]
    found = jax.vmap(stopping.standing, (0, 1, 0))(scores, drawn, candidates.mask)
    return jnp.stack([found.probability, found.regret], -1)

  @functools.cache  # jit knows what is compiled by the function
  def batch(count):
    def places(params, query):
      size = query.features.shape[0]
      mask = jnp.ones(size, bool) if query.is_given is None else query.is_given
      found = acquisition.batch(sampled(params, query), mask, count)
      return jnp.full(size, size).at[found.index].set(jnp.arange(count))

    return places

  return Questions(
    adapt, score, probability, spread, information, batch, standing, foreseen_by(learner)
  )


def foreseen_by(learner: MetaLearner) -> Callable[[Params, Support], Array]:
  """Returns `Questions.foreseen` of a learner."""

  def foreseen(params, support):
    given = task.drop_masked(choices_of(support))
    told = support.context, jax.random.key(0)
    return change_points.chosen(change_points.predictive(learner, params, given, *told), given)

  return foreseen


def check_posterior(has_posterior: bool, learner: str) -> None:
  """Refuses a learner that cannot say how uncertain it is.

  Raises:
    ValueError: naming those that can.
  """
  if not has_posterior:
    raise ValueError(
      f'{learner} has no posterior (its has_posterior is False), so it cannot say how uncertain it '
      f'is; {", ".join(WITH_POSTERIOR)} have one'
    )


def check_pool(shape: tuple[int, ...], count: Any) -> None:
  """Refuses a pool that is empty, or a number of questions that it does not hold.

  Args:
    shape: [..., M, K, D] of one user's pool, or pools.
    count: None for one question, of each pool.

  Raises:
    ValueError: saying what is needed.
  """
  size = shape[-3]
  if not size or shape[-2] < 2:
    needed = 'give at least one question M, of at least two candidates K'
    raise ValueError(f'the pool is empty: {needed}; got [..., M, K, D] = {list(shape)}')
  if count is not None and len(shape) > 3:
    raise ValueError(
      f'with a count there is one pool a user, [M, K, D]; got {list(shape)} of one: ask for each '
      'pool apart'
    )
  is_held = isinstance(count, numbers.Integral) and 1 <= int(count) <= size
  if count is not None and not is_held:
    raise ValueError(f'count must be a whole number from 1 to {size}, the pool; got {count!r}')


def support_of(history: History, context: np.ndarray) -> Support:
  """Returns what a learner adapts to, of one user or many."""
  return Support(history.features, history.shown, history.choice, history.weight, context)


def choices_of(support: Support) -> Choices:
  """Returns the comparisons of one user as a learner reads them."""
  candidates = Candidates(support.features.astype(jnp.float32), support.shown)
  return task.choices(candidates, support.choice, support.shown.any(-1), support.weight)


def all_real(features: Float[Array, 'N K D']) -> Candidates:
  """Returns candidates of which none is masked."""
  return Candidates(features, jnp.ones(features.shape[:2], bool))


def adapt_users(
  functions: Questions, params: Params, support: Support
) -> tuple[UserState, Bool[np.ndarray, 'U']]:
  """Returns the states of U users; that of a new user where adapting gives no finite one.

  Gradient descent diverges on features far from all that training saw, and the others of a batch
  shall not suffer for it.

  Args:
    functions: see `questions`.
    params: of the learner.
    support: with a leading U.

  Returns:
    The states, and for whom adapting diverged.

  Raises:
    ValueError: if a context alone, without comparisons, gives no finite state; names the users.
  """
  state = map_users(functions.adapt, params, support)
  diverged = ~_is_finite(functions, params, state, support)
  if diverged.any():
    state = _as_new(functions, params, state, support, diverged)
  return state, diverged


def warn_of(diverged: Bool[np.ndarray, 'U']) -> None:
  """Warns of the users, if any, for whom adapting diverged, by index."""
  if diverged.any():
    warnings.warn(
      f'adapting diverged for {np.sum(diverged)} of {diverged.size} users ({_some(diverged)}), who '
      'count as new users: their features lie too far from those of training for this learner',
      stacklevel=2,
    )


def query_users(
  function: Callable[[Params, Query], Array],
  params: Params,
  user_state: UserState,
  features: np.ndarray,
  *,
  many: int,
) -> np.ndarray:
  """Returns what a function says of one user or many: [*U, *N, ...].

  Padding to powers of two lets few shapes compile.

  Args:
    function: of `Questions`.
    params: of the learner.
    user_state: of one, or with a leading U.
    features: scaled, [*U, *N, K, D].
    many: 1 with a leading U, else 0.

  Raises:
    ValueError: where the result is not finite, naming the users.
  """
  lead, middle, candidates = features.shape[:many], features.shape[many:-2], features.shape[-2:]
  count = math.prod(middle)
  padded = np.zeros((*lead, power_of_two(count), *candidates), np.float32)
  padded[..., :count, :, :] = features.reshape(*lead, count, *candidates)
  is_given = np.broadcast_to(np.arange(padded.shape[-3]) < count, padded.shape[:-2])
  ask = functools.partial(map_users, function, params)
  found = for_one_or_many(ask, Query(user_state, padded, is_given), many).take(
    np.arange(count), axis=many
  )
  wrong = ~np.isfinite(found).all(tuple(range(many, found.ndim)))
  if wrong.any():
    users = f' for users {_some(wrong)}' if many else ''
    raise ValueError(
      f'the learner gives no finite prediction{users}: the features lie too far from those of '
      'training; check their units'
    )
  return found.reshape(*lead, *middle, *found.shape[many + 1 :])


def map_users(
  function: Callable[[Params, PyTree], PyTree], params: Params, users: PyTree
) -> PyTree:
  """Returns what a function gives for every user; compiled once for the shapes of a block of them.

  Args:
    function: `(params, user) -> arrays`, pure; kept by the caller, for it is what jit knows the
      compiled code by.
    params: of the learner.
    users: host arrays with a leading U each.

  Returns:
    Host arrays with a leading U. One user alone gives the same bits whenever it is called.
  """
  count = jax.tree.leaves(users)[0].shape[0]
  size = min(USERS_PER_CALL, power_of_two(count))

  def block(rows):
    index = np.minimum(np.arange(rows.start, rows.start + size), count - 1)  # the last repeated
    return jax.device_get(_block(function, params, _rows(users, index)))

  return in_blocks(block, count)


def in_blocks(function: Callable[[slice], PyTree], count: int) -> PyTree:
  """Returns what a function gives for `count` users, asked for USERS_PER_CALL at a time.

  So that whatever it holds meanwhile grows with a block of them and not with their number.

  Args:
    function: slice of users -> host arrays with a row for each; what is more is dropped.
    count: at least 1.

  Raises:
    ValueError: as the function does for all users at once, so that it names the right ones.
  """
  made = None
  for start in range(0, count, USERS_PER_CALL):
    rows = slice(start, min(start + USERS_PER_CALL, count))
    try:
      block = function(rows)
    except ValueError:
      function(slice(0, count))
      raise
    if made is None:  # once: blocks that are joined at the end would be held twice
      made = jax.tree.map(lambda x: np.empty((count, *x.shape[1:]), x.dtype), block)
    for whole, part in zip(jax.tree.leaves(made), jax.tree.leaves(block), strict=True):
      whole[rows] = part[: rows.stop - rows.start]
  return made


def for_one_or_many(function: Callable[[PyTree], PyTree], user: PyTree, many: int) -> PyTree:
  """Returns what a function of users with a leading U gives for one (many = 0) without it."""
  if many:
    return function(user)
  return jax.tree.map(lambda x: x[0], function(jax.tree.map(lambda x: x[None], user)))


def power_of_two(count: int) -> int:
  """Returns the smallest power of two that is at least `count` and 1: few shapes to compile."""
  return 1 << max(count - 1, 0).bit_length()


def _as_new(
  functions: Questions, params: Params, state: UserState, support: Support, diverged: np.ndarray
) -> UserState:
  own = _rows(support, diverged)
  nothing = jax.tree.map(np.zeros_like, own)._replace(context=own.context)
  new = map_users(functions.adapt, params, nothing)
  finite = np.isfinite(_largest_entries(new, own.choice.shape[0]))
  if not finite.all():
    wrong = np.flatnonzero(diverged)[~finite][:5].tolist()
    raise ValueError(
      f'the learner has no finite state for the contexts of users {wrong}: they lie too far from '
      'those of training; check their units'
    )
  for leaf, replaced in zip(jax.tree.leaves(state), jax.tree.leaves(new)):
    leaf[diverged] = replaced
  return state


def _is_finite(
  functions: Questions, params: Params, state: UserState, support: Support
) -> Bool[np.ndarray, 'U']:
  # To predict takes longer than to adapt, so only those whose state looks odd are predicted for.
  largest = _largest_entries(state, support.choice.shape[0])
  finite, odd = np.isfinite(largest), np.isfinite(largest) & (largest > LARGE)
  if odd.any():
    query = Query(_rows(state, odd), support.features[odd].astype(np.float32))
    for function in (functions.score, functions.probability):
      finite[odd] &= np.isfinite(map_users(function, params, query)).all((-2, -1))
  return finite


def _largest_entries(state: UserState, count: int) -> Float[np.ndarray, 'U']:
  largest = np.zeros(count)
  for leaf in jax.tree.leaves(state):
    largest = np.maximum(largest, np.abs(leaf).reshape(count, -1).max(-1, initial=0))
  return largest


def _some(wrong: Bool[np.ndarray, 'U']) -> str:
  """Names those of a batch for whom something is wrong, by index; a few if they are many."""
  index = np.flatnonzero(wrong)
  return ', '.join(map(str, index[:5])) + (', ...' if index.size > 5 else '')


def _rows(users: PyTree, index: np.ndarray) -> PyTree:
  return jax.tree.map(lambda x: x[index], users)


@functools.partial(jax.jit, static_argnums=0)
def _block(function, params, users):
  count = jax.tree.leaves(users)[0].shape[0]
  return batches.map_chunks(lambda i: function(params, task.take(users, i)), count, CHUNK_SIZE)
