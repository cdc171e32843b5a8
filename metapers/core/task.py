"""What a user is offered, what they did, what a learner sees of it, and what only judges see."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core import masked
from metapers.core.types import Array, Bool, Float, Int, PyTree


class Candidates(NamedTuple):
  """What a user is offered: N comparisons of K candidates with D features each."""

  features: Float[Array, '*T N K D']
  mask: Bool[Array, '*T N K']


class Choices(NamedTuple):
  """What a user did: `choice` is the index into K of the preferred candidate.

  `mask` is True where the comparison is real.
  """

  candidates: Candidates
  choice: Int[Array, '*T N']
  mask: Bool[Array, '*T N']


class Task(NamedTuple):
  """All that a learner ever sees of one user.

  `user` is the row among the known users, and their number for a new one (so that
  `table.at[user].get(mode='fill', fill_value=0)` gives zeros). `context` is what the learner is
  told besides: the setting, or features of the user's own text; C = 0 by default.
  """

  support: Choices
  query: Choices
  user: Int[Array, '*T']
  context: Float[Array, '*T C']


class Truth(NamedTuple):
  """What only judges and ceilings see of a simulated user.

  Rewards are z-scored (or raw) scores of the B reward models. E counts the candidates that bear on
  what was shown: the K shown ones FIRST, followed, under a rule that picks the pair by the user's
  own taste (`extreme`), by the rest of the prompt's responses, which are evidence too; else E = K.
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


def with_shots(support: Choices, shots: int | Int[Array, '']) -> Choices:
  """Keeps the first `shots` real comparisons by editing only the mask.

  Shapes stay, so one compiled function draws a whole adaptation curve.

  Args:
    support: Choices with masks [..., N].
    shots: how many real comparisons to keep; 0 is zero-shot.
  """
  rank = jnp.cumsum(support.mask, axis=-1)  # 1 at the first real comparison
  return support._replace(mask=support.mask & (rank <= shots))


def latest(support: Choices, shots: int | Int[Array, ''], window: int) -> Choices:
  """Keeps the last `window` of the first `shots` real comparisons; 0 keeps all of them.

  Args:
    support: Choices with masks [..., N].
    shots: how many there have been.
    window: static; how many are remembered.
  """
  kept = with_shots(support, shots)
  if not window:
    return kept
  rank = jnp.cumsum(kept.mask, axis=-1)
  return kept._replace(mask=kept.mask & (rank > shots - window))


def fill_masked(candidates: Candidates) -> Candidates:
  """Zeroes the features of masked candidates, whatever stands there."""
  return candidates._replace(features=masked.fill_features(candidates.features, candidates.mask))


def drop_masked(choices: Choices) -> Choices:
  """Zeroes whatever stands in masked entries: features, and the choice of masked comparisons."""
  mask = choices.candidates.mask & choices.mask[..., None]
  candidates = fill_masked(Candidates(choices.candidates.features, mask))
  return Choices(candidates, jnp.where(choices.mask, choices.choice, 0), choices.mask)


def chosen_mask(choices: Choices) -> Bool[Array, '*T N K']:
  """Marks the chosen candidate of every real comparison."""
  size = choices.candidates.mask.shape[-1]
  return jax.nn.one_hot(choices.choice, size, dtype=bool) & choices.mask[..., None]


def concat(first: Choices, second: Choices) -> Choices:
  """Joins two sets of comparisons of the same user along N (K and D must agree)."""
  axis = first.choice.ndim - 1
  return jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis), first, second)


def pad_to(choices: Choices, num_comparisons: int) -> Choices:
  """Pads one user's comparisons with masked ones up to `num_comparisons` along N.

  Raises:
    ValueError: if there are more comparisons already.
  """
  have = choices.choice.shape[-1]
  if have > num_comparisons:
    raise ValueError(f'cannot pad {have} comparisons to {num_comparisons}; raise num_comparisons')
  axis = choices.choice.ndim - 1

  def pad(x):
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, num_comparisons - have)
    return jnp.pad(x, widths)

  return jax.tree.map(pad, choices)


def validate(choices: Choices) -> Choices:
  """Checks one user's comparisons at the border (host arrays, outside of jit) and returns them.

  Raises:
    ValueError: for a real comparison whose choice is masked or out of range, or that has fewer
      than two real candidates, and for non-finite features of a real candidate.
  """
  features, real = np.asarray(choices.candidates.features), np.asarray(choices.candidates.mask)
  choice, mask = np.asarray(choices.choice), np.asarray(choices.mask)
  if (
    features.shape[:-1] != real.shape
    or real.shape[:-1] != choice.shape
    or mask.shape != choice.shape
  ):
    raise ValueError(
      f'shapes do not fit: features {features.shape}, candidate mask {real.shape}, choice '
      f'{choice.shape}, mask {mask.shape}; expected [N, K, D], [N, K], [N], [N]'
    )
  size = real.shape[-1]
  if np.any(mask & ((choice < 0) | (choice >= size))):
    raise ValueError(
      f'choice must lie in 0..{size - 1}, got {choice[mask].min()}..{choice[mask].max()}'
    )
  if np.any(mask & (real.sum(-1) < 2)):
    raise ValueError('a real comparison needs at least two real candidates; mask the comparison')
  chosen = np.take_along_axis(real, np.clip(choice, 0, size - 1)[..., None], -1)[..., 0]
  if np.any(mask & ~chosen):
    raise ValueError('the chosen candidate of a real comparison is masked; mask the comparison')
  if not np.all(np.isfinite(features[real & mask[..., None]])):
    raise ValueError('features of real candidates must be finite; mask the candidates that are not')
  return choices


def num_comparisons(choices: Choices) -> Int[Array, '*T']:
  """Counts the real comparisons."""
  return jnp.sum(choices.mask, -1)


def take(tree: PyTree, index: int | Int[Array, '...']) -> PyTree:
  """Indexes the leading axis of every leaf: users of a batch, rows of a table."""
  return jax.tree.map(lambda x: x[index], tree)
