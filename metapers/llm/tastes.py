"""Users with a weight of every axis of style, who compare answers of the small grammar."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core import task
from metapers.core.population import SEEN, HostOrDevice
from metapers.core.task import Candidates, Task, Truth
from metapers.core.types import Any, Callable, Float, Int, PyTree
from metapers.learners import options
from metapers.llm import styled_users, styles
from metapers.llm.text_users import Split

NUM_AXES = len(styles.AXES)
CHUNK_SIZE = 512  # comparisons drawn at once


class Compared(NamedTuple):
  """N comparisons of each user: two answers to a question, and the one chosen.

  prompts: numbers of the questions. responses: tokens. styles: -1 or +1 on each axis. choice: 0 or
  1, drawn with P ∝ exp(w·style).
  """

  prompts: Int[np.ndarray, 'U N']
  responses: Int[np.ndarray, 'U N 2 R']
  styles: Float[np.ndarray, 'U N 2 A']
  choice: Int[np.ndarray, 'U N']


class Tasted(NamedTuple):
  """Users of a split: weights of the axes, w ~ N(0, I), and what they compared."""

  weights: Float[np.ndarray, 'U A']
  support: Compared
  query: Compared


# (prompts [*batch], responses [*batch, 2, R]) -> features [*batch, 2, D]
Featurise = Callable[[np.ndarray, np.ndarray], np.ndarray]


def tastes(
  *,
  num_users: int,
  num_pairs: int,
  num_held_out: int = 100,
  num_support: int = 8,
  num_query: int = 20,
  seed: int = 0,
) -> dict[str, Tasted]:
  """Returns the users of each split; their questions are those of `styled_users.prompts`.

  Args:
    num_users: U, known ones.
    num_pairs: comparisons of each to train on.
    num_held_out: new users, of validation and of test.
    num_support: of their comparisons, of train questions.
    num_query: of comparisons of the questions of a split: test questions for SEEN and 'test'.
    seed: of all.

  Raises:
    ValueError: for a size below 1.
  """
  options.at_least_one(num_users=num_users, num_pairs=num_pairs, num_held_out=num_held_out)
  options.at_least_one(num_support=num_support, num_query=num_query)
  numbers, rng = styled_users.prompts(seed), np.random.default_rng(seed)

  def drawn(size, num, queried):
    weights = rng.standard_normal((size, NUM_AXES)).astype(np.float32)
    support = compared(rng, weights, numbers.train, num)
    return Tasted(weights, support, compared(rng, weights, queried, num_query))

  known = drawn(num_users, num_pairs, numbers.test)
  first = jax.tree.map(lambda x: x[:, :num_support], known.support)
  nothing = jax.tree.map(lambda x: x[:, :0], known.query)
  return {
    'train': known._replace(query=nothing),
    SEEN: known._replace(support=first),
    'validation': drawn(num_held_out, num_support, numbers.validation),
    'test': drawn(num_held_out, num_support, numbers.test),
  }


def compared(
  rng: np.random.Generator,
  weights: Float[HostOrDevice, 'U A'],
  numbers: Int[HostOrDevice, 'P'],
  size: int,
) -> Compared:
  """Returns `size` comparisons of each user, of answers in random styles to random questions."""
  shape = (len(weights), size)
  seeds = rng.integers(2**31, size=shape).astype(np.uint32)
  given = seeds.reshape(-1), rng.choice(numbers, shape).reshape(-1), np.repeat(weights, size, 0)
  found = host_chunks(_compared, given, CHUNK_SIZE)
  return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), found)


@jax.jit
@jax.vmap
def _compared(given):
  seed, number, own = given
  key_poles, key_choice, *key_texts = jax.random.split(jax.random.key(seed), 4)
  poles = jax.random.bernoulli(key_poles, 0.5, (2, NUM_AXES)).astype(jnp.int32)
  responses = jax.vmap(styles.response_of, (0, None, 0))(jnp.stack(key_texts), number, poles)
  style = 2.0 * poles - 1
  choice = jax.random.categorical(key_choice, style @ own).astype(jnp.int32)
  drawn: Any = (number, responses, style, choice)  # device arrays, on their way to the host
  return Compared(*drawn)


def host_chunks(function: Callable, given: PyTree, size: int) -> PyTree:
  """Returns a function of `size` rows applied to any number of them: it is compiled once.

  Args:
    function: of arrays with a leading axis of `size`, to arrays with the same.
    given: host arrays with a leading axis of at least 1.
    size: rows at once; the last chunk is filled up with its last row.

  Returns:
    Host arrays.
  """
  given = jax.tree.map(np.asarray, given)
  count = jax.tree.leaves(given)[0].shape[0]
  parts = [
    jax.device_get(function(_rows(given, np.minimum(np.arange(start, start + size), count - 1))))
    for start in range(0, count, size)
  ]
  return jax.tree.map(lambda *x: np.concatenate(x)[:count], *parts)


def _rows(tree: PyTree, index: np.ndarray) -> PyTree:
  return jax.tree.map(lambda x: x[index], tree)


def split_of(given: Tasted, featurise: Featurise, user: Int[HostOrDevice, 'U']) -> Split:
  """Returns users as stored tasks, whose candidates have the features of their texts.

  Args:
    given: the users.
    featurise: what is read of a text.
    user: their rows among the known users.
  """
  support = choices_of(given.support, featurise)
  size, width = len(given.weights), support.candidates.features.shape[-1]
  is_asked = given.query.choice.size > 0  # known users' queries are empty
  query = choices_of(given.query, featurise) if is_asked else jax.tree.map(
    lambda x: x[:, :0], support
  )  # fmt: skip
  slate = Candidates(jnp.zeros((size, 0, 2, width), jnp.float32), jnp.zeros((size, 0, 2), bool))
  asked, known = (jax.tree.map(jnp.asarray, x) for x in (given.query, given.support))
  truth = Truth(
    weights=jnp.asarray(given.weights),
    support_rewards=known.styles,
    support_mask=support.candidates.mask,
    support_prompts=known.prompts,
    query_rewards=asked.styles,
    query_mask=query.candidates.mask,
    query_prompts=asked.prompts,
    slate=slate,
    slate_rewards=jnp.zeros((size, 0, 2, NUM_AXES), jnp.float32),
    slate_prompts=jnp.zeros((size, 0), jnp.int32),
    slate_models=jnp.zeros((size, 0, 2), jnp.int32),
  )
  context = jnp.zeros((size, 0), jnp.float32)
  return Split(Task(support, query, jnp.asarray(user, jnp.int32), context), truth)


def choices_of(given: Compared, featurise: Featurise):
  """Returns comparisons with features of their texts."""
  features = jnp.asarray(featurise(given.prompts, given.responses))
  mask = jnp.ones(features.shape[:-1], bool)
  return task.choices(Candidates(features, mask), jnp.asarray(given.choice))


def utilities(
  weights: Float[np.ndarray, 'U A'], responses: Int[np.ndarray, 'U *N R']
) -> Float[np.ndarray, 'U *N']:
  """Returns w·style of responses to each user; an axis that words show no pole of counts 0."""
  return np.einsum('ua,u...a->u...', weights, styles_of(responses))


def styles_of(responses: Int[HostOrDevice, '*batch R']) -> Float[np.ndarray, '*batch A']:
  """Returns the pole that each response shows on each axis, see `styles.style_of`."""
  flat = np.asarray(responses).reshape(-1, responses.shape[-1])
  return host_chunks(_style_of, flat, CHUNK_SIZE).reshape(*responses.shape[:-1], NUM_AXES)


_style_of = jax.jit(styles.style_of)
