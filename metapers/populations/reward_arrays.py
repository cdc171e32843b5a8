"""From a table of scores to device arrays: which reward models and responses, and how scaled."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core import population
from metapers.core.population import SPLITS, Scaling, Users
from metapers.core.tables import RewardTable
from metapers.core.types import Float
from metapers.populations.reward_episodes import Arrays

TRACKS = ('scores', 'features')
NORMALIZATIONS = ('z', 'raw')


def restrict(
  table: RewardTable, reward_models: Sequence[str], responses: Sequence[int]
) -> RewardTable:
  """Returns the table with some of the reward models, and of the responses of every prompt.

  Args:
    table: of P prompts, R responses and B reward models.
    reward_models: names, in the order that weights shall have; none keeps all.
    responses: numbers in 1..R, as data sets name their columns; none keeps all.

  Raises:
    ValueError: for an unknown or repeated name or number, a reward model whose scores are all the
      same, or fewer than two responses.
  """
  num_responses = table.mask.shape[1]
  names = list(reward_models) or list(table.reward_models)
  numbers = list(responses) or list(range(1, num_responses + 1))
  unknown = sorted(set(names) - set(table.reward_models))
  if unknown or len(set(names)) < len(names):
    raise ValueError(
      f'reward_models must be distinct names among {", ".join(table.reward_models)}; got {names}'
    )
  if not set(numbers) <= set(range(1, num_responses + 1)) or len(set(numbers)) < len(numbers):
    raise ValueError(f'responses must be distinct numbers in 1..{num_responses}; got {numbers}')
  if len(numbers) < 2:
    raise ValueError(f'a comparison needs at least two responses; got responses={numbers}')
  model = [table.reward_models.index(name) for name in names]
  constant = [name for name, spread in zip(names, table.std[model]) if not spread > 0]
  if constant:
    raise ValueError(
      f'reward model {", ".join(constant)} gives every train response the same score; leave it out '
      'of reward_models'
    )
  row = [number - 1 for number in numbers]
  return table._replace(
    rewards=table.rewards[:, row][..., model],
    features=None if table.features is None else table.features[:, row],
    mask=table.mask[:, row],
    reward_models=tuple(names),
    response_model=table.response_model[:, row],
    mean=table.mean[model],
    std=table.std[model],
  )


def score_scaling(table: RewardTable, normalization: str) -> Scaling:
  """Returns what makes z-scores, by the table's train statistics, or leaves scores raw.

  Raises:
    ValueError: for an unknown normalisation.
  """
  if normalization not in NORMALIZATIONS:
    raise ValueError(f'unknown normalization {normalization!r}; known: {", ".join(NORMALIZATIONS)}')
  if normalization == 'raw':
    return population.unscaled(len(table.reward_models))
  return Scaling(table.mean.astype(np.float32), table.std.astype(np.float32))


def feature_scaling(table: RewardTable) -> Scaling:
  """Returns what makes mean 0 and sd 1 over the real responses of all but the test prompts.

  A feature that is constant there stays as it is, around 0: a test response may have another.

  Raises:
    ValueError: for a table without features.
  """
  if table.features is None:
    raise ValueError('this store holds no features; use track=scores or extract features')
  train = np.flatnonzero(table.prompt_split != SPLITS.index('test'))
  found = population.scaling_of(table.features[train][table.mask[train]])
  return Scaling(*(each.astype(np.float32) for each in found))


def scaled(values: np.ndarray, mask: np.ndarray, scaling: Scaling) -> Float[np.ndarray, 'P R D']:
  """Returns scaled features or scores of every response; 0 where masked."""
  return np.where(mask[..., None], (values - scaling.mean) / scaling.scale, 0).astype(np.float32)


def place(
  table: RewardTable, users: dict[str, Users], *, track: str, normalization: str
) -> tuple[Arrays, Scaling]:
  """Returns a table and its users as arrays, and how the features of learners were scaled.

  Raises:
    ValueError: for an unknown track or normalisation, or a split without prompts.
  """
  if track not in TRACKS:
    raise ValueError(f'unknown track {track!r}; known: {", ".join(TRACKS)}')
  ids = np.arange(len(table.prompt_split), dtype=np.int32)
  order = np.random.default_rng(0).permutation(ids)  # cells hold mixed prompts
  prompts = {name: order[table.prompt_split[order] == i] for i, name in enumerate(SPLITS)}
  empty = [name for name, ids in prompts.items() if ids.size == 0]
  if empty:
    raise ValueError(f'no prompts in split {empty[0]!r} of the store; assign some in its manifest')
  scaling = score_scaling(table, normalization)
  rewards = features = scaled(table.rewards, table.mask, scaling)
  if track == 'features':
    scaling = feature_scaling(table)
    features = scaled(np.asarray(table.features), table.mask, scaling)
  arrays = Arrays(
    rewards=jnp.asarray(rewards),
    features=jnp.asarray(features),
    mask=jnp.asarray(table.mask),
    models=jnp.asarray(table.response_model, jnp.int32),
    prompts=jax.tree.map(jnp.asarray, prompts),
    users=users,
  )
  return arrays, scaling
