"""What is asked of a learner in use, for many people at once, from host arrays to host arrays."""

import functools
import inspect
import math
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core import batches, choice_model, task
from metapers.core.meta_learner import MetaLearner
from metapers.core.task import Candidates
from metapers.core.types import (
  Any,
  Array,
  Bool,
  Callable,
  Float,
  Params,
  PRNGKey,
  PyTree,
  UserState,
)
from metapers.evaluation import acquisition
from metapers.learners import LEARNERS, make

PEOPLE_PER_CALL = 4096  # bounds the memory that a million people take on the device
CHUNK_SIZE = 64
LARGE = 1e4  # entries of a state that overflow in no network of a few layers, and that few exceed


class Support(NamedTuple):
  """What one person chose.

  features: [N, K, D], of any float type. shown: [N, K], which candidates are real; where none is,
  there is no comparison. choice: [N].
  """

  features: Any
  shown: Any
  choice: Any


Asked = tuple[UserState, Float[Array, 'N K D']]


class Questions(NamedTuple):
  """Pure functions `(params, ...) -> array` for ONE person; see `questions`.

  adapt: `(params, support) -> user_state`; everyone has the same key, so that a state is a function
    of its comparisons.
  score: `(params, (user_state, features)) -> [N, K]` utilities.
  probability: the same arguments -> [N, K] choice probabilities.
  spread: -> [N, K] standard deviation of those probabilities under the posterior.
  information: -> [N] mutual information of the choice and the person, in nats.
  """

  adapt: Callable[[Params, Support], UserState]
  score: Callable[[Params, Asked], Array]
  probability: Callable[[Params, Asked], Array]
  spread: Callable[[Params, Asked], Array]
  information: Callable[[Params, Asked], Array]


def questions(learner: MetaLearner) -> Questions:
  """Builds what is asked of a learner that needs no context."""

  def adapt(params, support):
    candidates = Candidates(support.features.astype(jnp.float32), support.shown)
    choices = task.choices(candidates, support.choice, support.shown.any(-1))
    return learner.adapt(params, choices, jnp.zeros(0), jax.random.key(0))

  def score(params, asked):
    user_state, features = asked
    return learner.score(params, user_state, shown(features))

  def probability(params, asked):
    user_state, features = asked
    return jnp.exp(learner.predict(params, user_state, shown(features)))

  def sampled(params, asked):
    user_state, features = asked
    candidates = shown(features)
    scores = learner.sample(params, user_state, candidates)
    return jax.vmap(choice_model.log_probs, (0, None))(scores, candidates.mask)  # [S, N, K]

  def spread(params, asked):
    return jnp.std(jnp.exp(sampled(params, asked)), 0)

  def information(params, asked):
    return acquisition.mutual_information(sampled(params, asked))

  return Questions(adapt, score, probability, spread, information)


def shown(features: Float[Array, 'N K D']) -> Candidates:
  """Makes candidates of which all are real."""
  return Candidates(features, jnp.ones(features.shape[:2], bool))


def num_draws(learner: MetaLearner, num_features: int) -> int:
  """Returns S, the draws from a learner's posterior; 1 where it has none. Computes nothing."""

  def draw(key: PRNGKey) -> Array:
    params = learner.init(key)
    pair = shown(jnp.zeros((1, 2, num_features)))
    support = task.choices(pair, jnp.zeros(1, jnp.int32), jnp.ones(1, bool))
    return learner.sample(params, learner.adapt(params, support, jnp.zeros(0), key), pair)

  return jax.eval_shape(draw, jax.random.key(0)).shape[0]


def with_posterior() -> list[str]:
  """Returns the names of the learners that draw from a posterior."""
  sizes = {'num_features': 2, 'num_users': 2}
  found = []
  for name, factory in LEARNERS.items():
    known = inspect.signature(factory).parameters
    learner = make(name, **{size: value for size, value in sizes.items() if size in known})
    found += [name] if num_draws(learner, sizes['num_features']) > 1 else []
  return found


def adapt(asked: Questions, params: Params, support: Support) -> UserState:
  """Adapts to U people; one whose state or predictions are not finite is left a stranger.

  Gradient descent diverges on features far from all that training saw, and the others of a batch
  shall not suffer for it. A warning names who diverged.

  Args:
    asked: see `questions`.
    params: of the learner.
    support: with a leading U.
  """
  state = each(asked.adapt, params, support)
  finite = _is_finite(asked, params, state, support)
  if finite.all():
    return state
  warnings.warn(
    f'adapting diverged for {np.sum(~finite)} of {finite.size} people ({batches.some(~finite)}), '
    'who stay strangers: their features lie too far from those of training for this learner',
    stacklevel=2,
  )
  nothing = jax.tree.map(lambda x: np.zeros_like(x[:1]), support)
  stranger = each(asked.adapt, params, nothing)
  return jax.tree.map(
    lambda own, none: np.where(finite.reshape(-1, *[1] * (own.ndim - 1)), own, none),
    state,
    stranger,
  )


def answer(
  function: Callable[[Params, Asked], Array],
  params: Params,
  user_state: UserState,
  features: np.ndarray,
  *,
  many: int,
) -> np.ndarray:
  """Asks one person or many: [*U, *N, ...]. Padding to powers of two lets few shapes compile.

  Args:
    function: of `Questions`.
    params: of the learner.
    user_state: of one, or with a leading U.
    features: scaled, [*U, *N, K, D].
    many: 1 with a leading U, else 0.

  Raises:
    ValueError: for people whose answer is not finite, naming them.
  """
  lead, middle, candidates = features.shape[:many], features.shape[many:-2], features.shape[-2:]
  count = math.prod(middle)
  padded = np.zeros((*lead, power_of_two(count), *candidates), np.float32)
  padded[..., :count, :, :] = features.reshape(*lead, count, *candidates)
  ask = functools.partial(each, function, params)
  found = batches.for_one_or_many(ask, (user_state, padded), many).take(np.arange(count), axis=many)
  wrong = ~np.isfinite(found).all(tuple(range(many, found.ndim)))
  if wrong.any():
    who = f' for people {batches.some(wrong)}' if many else ''
    far = 'the features lie too far from those of training'
    raise ValueError(f'the learner has no finite answer{who}: {far}')
  return found.reshape(*lead, *middle, *found.shape[many + 1 :])


def each(function: Callable[[Params, PyTree], PyTree], params: Params, people: PyTree) -> PyTree:
  """Calls a function for every person; compiled once for the shapes of a block of people.

  Args:
    function: `(params, person) -> arrays`, pure; kept by the caller, for it is what jit knows the
      compiled code by.
    params: of the learner.
    people: host arrays with a leading U each.

  Returns:
    Host arrays with a leading U. One person alone gives the same bits whenever it is asked.
  """
  count = jax.tree.leaves(people)[0].shape[0]
  size = min(PEOPLE_PER_CALL, power_of_two(count))
  blocks = []
  for start in range(0, count, size):
    index = np.minimum(np.arange(start, start + size), count - 1)  # the last repeated: one shape
    blocks.append(jax.device_get(_block(function, params, _rows(people, index))))
  return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *blocks)


def _is_finite(
  asked: Questions, params: Params, state: UserState, support: Support
) -> Bool[np.ndarray, 'U']:
  # To predict takes longer than to adapt, so only those whose state looks odd are asked.
  count = support.choice.shape[0]
  largest = np.zeros(count)
  for leaf in jax.tree.leaves(state):
    largest = np.maximum(largest, np.abs(leaf).reshape(count, -1).max(-1, initial=0))
  finite, odd = np.isfinite(largest), np.isfinite(largest) & (largest > LARGE)
  if odd.any():
    own = (_rows(state, odd), support.features[odd].astype(np.float32))
    for function in (asked.score, asked.probability):
      finite[odd] &= np.isfinite(each(function, params, own)).all((-2, -1))
  return finite


def power_of_two(count: int) -> int:
  """Returns the smallest power of two that is at least `count` and 1: few shapes to compile."""
  return 1 << max(count - 1, 0).bit_length()


def _rows(people: PyTree, index: np.ndarray) -> PyTree:
  return jax.tree.map(lambda x: x[index], people)


@functools.partial(jax.jit, static_argnums=0)
def _block(function, params, people):
  count = jax.tree.leaves(people)[0].shape[0]
  return batches.map_chunks(lambda i: function(params, task.take(people, i)), count, CHUNK_SIZE)
