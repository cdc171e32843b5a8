"""Users who like one pole of one axis of style: what they compare, and the truth about them."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core import task
from metapers.core.population import SEEN
from metapers.core.task import Candidates, Choices, Task, Truth
from metapers.core.types import Array, Int, PRNGKey
from metapers.learners import options
from metapers.llm import p_dpo, styles
from metapers.llm.text_users import Split

NUM_AXES = len(styles.AXES)
PROMPT_SHARES = (0.75, 0.125)  # of training and validation; the rest is for testing


class Prompts(NamedTuple):
  """Numbers of the prompts of each split; none is in two of them."""

  train: Int[np.ndarray, 'P']
  validation: Int[np.ndarray, 'P']
  test: Int[np.ndarray, 'P']


def prompts(seed: int) -> Prompts:
  """Returns the prompts of each split."""
  order = np.random.default_rng(seed).permutation(styles.NUM_PROMPTS).astype(np.int32)
  ends = (np.cumsum(PROMPT_SHARES) * len(order)).astype(int)
  return Prompts(*np.split(order, ends))


def types_of(
  num_users: int, num_axes: int, shares: Sequence[int | float], rng: np.random.Generator
) -> Int[np.ndarray, 'U']:
  """Returns each user's type, 2 axis + pole, in exact shares as far as they divide, shuffled.

  Raises:
    ValueError: for shares that are not one for each type.
  """
  if len(shares) != 2 * num_axes or not 1 <= num_axes <= NUM_AXES:
    raise ValueError(f'{num_axes} axes of {NUM_AXES} have {2 * num_axes} types, got {shares}')
  ends = np.round(np.cumsum(shares) / np.sum(shares) * num_users).astype(int)
  return rng.permutation(np.searchsorted(ends, np.arange(num_users), side='right'))


def styled_users(
  *,
  num_users: int,
  num_pairs: int,
  num_axes: int = 1,
  shares: Sequence[int | float] = (0.65, 0.35),
  statement_rate: int | float = 0.0,
  num_held_out: int = 100,
  num_support: int = 5,
  num_query: int = 20,
  seed: int = 0,
) -> dict[str, Split]:
  """Returns the splits of `text_users.text_users`, without what a reference model says.

  The two answers of a comparison are to one prompt, say different things, and differ on the user's
  axis; on the others each has a pole at random. The one with the user's pole is chosen.

  Args:
    num_users: U, known ones.
    num_pairs: comparisons of each to train on, of train prompts.
    num_axes: that users differ in, the first ones of `styles.AXES`.
    shares: of the types (axis, pole) among users, pole by pole; of held-out users, too.
    statement_rate: share of users who say truly what they like; that is their context.
    num_held_out: new users, of validation and of test.
    num_support: of their comparisons of train prompts.
    num_query: of comparisons of the prompts of a split: test prompts for SEEN and 'test'.
    seed: of all.

  Raises:
    ValueError: for an option out of range.
  """
  options.at_least_one(num_users=num_users, num_pairs=num_pairs, num_held_out=num_held_out)
  rng, of_split = np.random.default_rng(seed), prompts(seed)
  keys = dict(
    zip(('known', 'seen', 'validation', 'test'), jax.random.split(jax.random.key(seed), 4))
  )

  def held_out(name, numbers, types, says, user):
    key_support, key_query = jax.random.split(keys[name])
    support = compared(key_support, of_split.train, types, num_support)
    return split_of(support, compared(key_query, numbers, types, num_query), types, says, user)

  def people(size):
    return types_of(size, num_axes, shares, rng), rng.permutation(size) < statement_rate * size

  types, says = people(num_users)
  rows, new = np.arange(num_users), np.full(num_held_out, num_users)
  everything = compared(keys['known'], of_split.train, types, num_pairs)
  nothing = jax.tree.map(lambda x: x[:, :0], everything)
  seen = compared(keys['seen'], of_split.test, types, num_query)
  first = jax.tree.map(lambda x: x[:, :num_support], everything)
  return {
    'train': split_of(everything, nothing, types, says, rows),
    SEEN: split_of(first, seen, types, says, rows),
    'validation': held_out('validation', of_split.validation, *people(num_held_out), new),
    'test': held_out('test', of_split.test, *people(num_held_out), new),
  }


class Compared(NamedTuple):
  """Comparisons of users, with the poles [U, N, 2, axes] (0 or 1) and prompts [U, N] of each."""

  choices: Choices
  poles: Int[Array, 'U N 2 A']
  prompts: Int[Array, 'U N']


def compared(
  key: PRNGKey, numbers: Int[np.ndarray, 'P'], types: Int[np.ndarray, 'U'], size: int
) -> Compared:
  """Returns `size` comparisons of each user, of prompts of the given numbers."""
  keys = jax.random.split(key, (len(types), size))
  draw = jax.vmap(jax.vmap(_pair, (0, None, None)), (0, None, 0))
  poles, prompt, response, drawn = jax.jit(draw)(keys, jnp.asarray(numbers), jnp.asarray(types))
  axis, pole = jnp.asarray(types) // 2, jnp.asarray(types) % 2
  own = jnp.take_along_axis(poles[:, :, 1], axis[:, None, None], -1)[..., 0]
  features = p_dpo.sequences(prompt, prompt != styles.PAD, response, response != styles.PAD)
  candidates = Candidates(features, jnp.ones(poles.shape[:3], bool))
  choice = (own == pole[:, None]).astype(jnp.int32)
  return Compared(task.choices(candidates, choice), poles, drawn)


def _pair(key: PRNGKey, numbers: Array, kind: Array) -> tuple[Array, Array, Array, Array]:
  key_prompt, key_poles, *key_texts = jax.random.split(key, 4)
  number = numbers[jax.random.randint(key_prompt, (), 0, numbers.shape[0], jnp.int32)]
  poles = jax.random.bernoulli(key_poles, 0.5, (2, NUM_AXES)).astype(jnp.int32)
  poles = poles.at[1, kind // 2].set(1 - poles[0, kind // 2])
  texts = jax.vmap(styles.text_of, (0, None, 0))(jnp.stack(key_texts), number, poles)
  return poles, texts.prompt, texts.response, number


def split_of(
  support: Compared, query: Compared, types: np.ndarray, says: np.ndarray, user: np.ndarray
) -> Split:
  """Returns users of a split with their truth: rewards are the poles, -1 and +1."""
  kind = jnp.asarray(types)
  weights = jax.nn.one_hot(kind // 2, NUM_AXES) * (2.0 * (kind % 2) - 1)[:, None]
  slate = jax.tree.map(lambda x: x[:, :0], query.choices.candidates)
  empty = jnp.zeros((len(types), 0, 2), jnp.int32)
  truth = Truth(
    weights=weights,
    support_rewards=2.0 * support.poles - 1,
    support_mask=support.choices.candidates.mask,
    support_prompts=support.prompts,
    query_rewards=2.0 * query.poles - 1,
    query_mask=query.choices.candidates.mask,
    query_prompts=query.prompts,
    slate=slate,
    slate_rewards=jnp.zeros((*empty.shape, NUM_AXES), jnp.float32),
    slate_prompts=empty[..., 0],
    slate_models=empty,
  )
  context = (
    told(kind, jnp.asarray(says)) if np.any(says) else jnp.zeros((len(types), 0), jnp.float32)
  )
  tasks = Task(support.choices, query.choices, jnp.asarray(user, jnp.int32), context)
  return Split(tasks, truth)


def told(types: Int[Array, 'U'], says: Array) -> dict[str, Array]:
  """Returns contexts: what users of these types say, with nothing real of those who say nothing."""
  text = jax.vmap(styles.statement_of)(types // 2, types % 2)
  return {'text': text, 'mask': jnp.broadcast_to(says[:, None], text.shape)}


def type_of(split: Split) -> Int[np.ndarray, 'U']:
  """Returns the type of each user of a split, 2 axis + pole.

  Raises:
    ValueError: for users of whom it is not known.
  """
  if split.truth is None:
    raise ValueError('the types of real people are not known')
  weights = np.asarray(split.truth.weights)
  return 2 * np.abs(weights).argmax(-1) + (weights.sum(-1) > 0)
