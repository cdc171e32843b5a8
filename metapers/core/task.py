"""What a user is offered, what they did, what a learner sees of it, and what is hidden from it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core import masked
from metapers.core.types import Array, Bool, Context, Features, Float, Int, PyTree


class Candidates(NamedTuple):
  """What a user is offered: N comparisons of K candidates.

  features: [*T, N, K, D]; or a dict of arrays [*T, N, K, ...] of any dtype, such as token ids,
    their masks, and scores beside embeddings.
  mask: [*T, N, K], True where the candidate is real.
  """

  features: Features
  mask: Bool[Array, '*T N K']


class Choices(NamedTuple):
  """What a user did; `choices` makes one.

  choice: index into K of the preferred candidate. mask: True where the comparison is real.
  weight: how often the comparison counts, 1 by default: replication, survey or importance weights.
    Weight 2 is the comparison twice, weight 0 none. It does not say how sure the user was, which
    `serving.confidence` approximates by a weight.
  """

  candidates: Candidates
  choice: Int[Array, '*T N']
  mask: Bool[Array, '*T N']
  weight: Float[Array, '*T N']


class Task(NamedTuple):
  """All that a learner ever sees of one user.

  `user` is the row among the known users, and their number for a new one (so that
  `table.at[user].get(mode='fill', fill_value=0)` gives zeros). `context` is what the learner knows
  besides the comparisons: the setting, or features of the user's own text; an array [C], with C = 0
  by default, or a dict of arrays.
  """

  support: Choices
  query: Choices
  user: Int[Array, '*T']
  context: Context


class Truth(NamedTuple):
  """What only evaluation and references see of a simulated user.

  Rewards are z-scored (or raw) scores of the B reward models. E counts the candidates that bear on
  what was shown: the K shown ones FIRST, followed, under a rule that picks the pair by the user's
  own rewards (`extreme`), by the prompt's other responses, which are evidence too; else E = K.
  `prompts` are ids; `slate` holds M whole slates of R responses for best-of-R picks, and
  `slate_models` the index of the model that wrote each response.
  """

  weights: Float[Array, '*T B']
  support_rewards: Float[Array, '*T N E B']
  support_mask: Bool[Array, '*T N E']
  support_prompts: Int[Array, '*T N']
  query_rewards: Float[Array, '*T N E B']
  query_mask: Bool[Array, '*T N E']
  query_prompts: Int[Array, '*T N']
  slate: Candidates
  slate_rewards: Float[Array, '*T M R B']
  slate_prompts: Int[Array, '*T M']
  slate_models: Int[Array, '*T M R']


def choices(
  candidates: Candidates,
  choice: Int[Array, '*N'],
  mask: Bool[Array, '*N'] | None = None,
  weight: Float[Array, '*N'] | None = None,
) -> Choices:
  """Returns comparisons; by default all are real and count once.

  Args:
    candidates: what was offered.
    choice: [*T, N], or [] of one comparison under `vmap`: index into K of the preferred candidate.
    mask: likewise, True where the comparison is real.
    weight: likewise, how often each counts.
  """
  shape = jnp.shape(choice)
  mask = jnp.ones(shape, bool) if mask is None else mask
  weight = jnp.ones(shape, jnp.float32) if weight is None else weight
  return Choices(candidates, choice.astype(jnp.int32), mask, weight)


def no_context() -> Array:
  """Returns the context of a task that has none: an array of width C = 0."""
  return jnp.zeros((0,), jnp.float32)


def with_shots(support: Choices, shots: int | Int[Array, '']) -> Choices:
  """Returns the support with its first `shots` real comparisons; only the mask is edited.

  Shapes stay, so one compiled function draws a whole adaptation curve. Shots count comparisons,
  whatever their weights.

  Args:
    support: Choices with masks [..., N].
    shots: how many real comparisons to keep; 0 is zero-shot.
  """
  rank = jnp.cumsum(support.mask, axis=-1)  # 1 at the first real comparison
  return support._replace(mask=support.mask & (rank <= shots))


def latest(support: Choices, shots: int | Int[Array, ''], window: int) -> Choices:
  """Returns the last `window` of the first `shots` real comparisons; window 0 keeps all of them.

  Args:
    support: Choices with masks [..., N].
    shots: how many there have been.
    window: static; how many are remembered.
  """
  kept = with_shots(support, shots)
  if not window:
    return kept
  rank = jnp.cumsum(kept.mask, axis=-1)
  return kept._replace(mask=kept.mask & (rank > rank[..., -1:] - window))


def fill_masked(candidates: Candidates) -> Candidates:
  """Returns the candidates with zeros for the features of masked ones, whatever stood there."""
  return candidates._replace(features=masked.fill_features(candidates.features, candidates.mask))


def drop_masked(given: Choices) -> Choices:
  """Returns comparisons with zeros in all masked entries: features, choices and weights."""
  mask = given.candidates.mask & given.mask[..., None]
  return Choices(
    fill_masked(Candidates(given.candidates.features, mask)),
    jnp.where(given.mask, given.choice, 0),
    given.mask,
    masked.fill(given.weight, given.mask),
  )


def chosen_mask(given: Choices) -> Bool[Array, '*T N K']:
  """Returns [*T, N, K], True at the chosen candidate of every real comparison."""
  size = given.candidates.mask.shape[-1]
  return jax.nn.one_hot(given.choice, size, dtype=bool) & given.mask[..., None]


def concat(first: Choices, second: Choices) -> Choices:
  """Returns two sets of comparisons of one user joined along N (K and D must agree)."""
  axis = first.choice.ndim - 1
  return jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis), first, second)


def pad_to(given: Choices, num_comparisons: int) -> Choices:
  """Returns one user's comparisons, padded with masked ones up to `num_comparisons` along N.

  Raises:
    ValueError: if there are more comparisons already.
  """
  have = given.choice.shape[-1]
  if have > num_comparisons:
    raise ValueError(f'cannot pad {have} comparisons to {num_comparisons}; raise num_comparisons')
  axis = given.choice.ndim - 1

  def pad(x):
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, num_comparisons - have)
    return jnp.pad(x, widths)

  return jax.tree.map(pad, given)


def num_comparisons(given: Choices) -> Int[Array, '*T']:
  """Returns the number of real comparisons, whatever their weights."""
  return masked.count(given.mask, -1)


def total_weight(given: Choices) -> Float[Array, '*T']:
  """Returns how much evidence there is: the sum of the weights of the real comparisons."""
  return masked.total(given.weight, given.mask, -1)


def take(tree: PyTree, index: int | Int[Array, '...']) -> PyTree:
  """Returns every leaf indexed along its leading axis: users of a batch, rows of a table."""
  return jax.tree.map(lambda x: x[index], tree)
