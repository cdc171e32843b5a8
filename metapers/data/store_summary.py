"""What a store's scores are like, and how much of them its features explain."""

from typing import NamedTuple

import numpy as np

from metapers.core.population import SPLITS
from metapers.core.tables import RewardTable
from metapers.core.types import Float
from metapers.data import reward_table, ridge
from metapers.data.reward_table import MaskedCounts


class StoreSummary(NamedTuple):
  """A store in numbers.

  masked: responses that are never shown. correlation: of two reward models' scores inside prompts,
  mean over all pairs of models, NaN for one model. feature_r2: [B] share of each reward model's
  variance inside test prompts that ridge regression on the features explains; None without.
  """

  masked: MaskedCounts
  correlation: float
  feature_r2: Float[np.ndarray, 'B'] | None


def contents(table: RewardTable) -> str:
  """Returns what is in a store, as text."""
  num_prompts, num_responses, num_models = table.rewards.shape
  sizes = reward_table.split_sizes(table.prompt_split)
  features = 'none' if table.features is None else f'{table.features.shape[-1]} a response'
  return '\n'.join(
    [
      f'source: {table.source}',
      f'manifest sha256: {table.manifest_hash}',
      f'{num_prompts} prompts x {num_responses} responses x {num_models} reward models',
      'prompts: ' + ', '.join(f'{size} {name}' for name, size in sizes.items()),
      f'features: {features}',
      f'reward models: {", ".join(table.reward_models)}',
      f'response models: {", ".join(table.response_models)}',
    ]
  )


def as_text(table: RewardTable, found: StoreSummary) -> str:
  """Returns masked responses, each reward model's scores, and how much of them features explain."""
  missing, repeated, total = found.masked
  lines = [
    f'source: {table.source}',
    f'{missing} missing and {repeated} repeated of {total} responses (the text or all scores of an '
    'earlier one)',
    f'{"reward model":20}{"train mean":>12}{"train sd":>12}',
  ]
  for name, mean, std in zip(table.reward_models, table.mean, table.std, strict=True):
    lines.append(f'{name:20}{mean:12.4f}{std:12.4f}')
  lines.append(f'correlation of reward models within prompts, mean: {found.correlation:.3f}')
  if found.feature_r2 is None:
    return '\n'.join([*lines, 'no features'])
  explained = 'within-prompt R2 of ridge on test prompts, '
  for name, value in zip(table.reward_models, found.feature_r2, strict=True):
    lines.append(f'{explained}{name}: {value:.3f}')
  return '\n'.join([*lines, f'{explained}mean: {found.feature_r2.mean():.3f}'])


def summarize(table: RewardTable) -> StoreSummary:
  """Returns the summary of a store."""
  scores = reward_table.z_scores(table.rewards, table.mask, table.mean, table.std)
  centred = ridge.center(scores, table.mask)[table.mask]  # [n, B]
  pairs = np.atleast_2d(np.corrcoef(centred.T))[~np.eye(centred.shape[1], dtype=bool)]
  feature_r2 = None
  if table.features is not None:
    test = table.prompt_split == SPLITS.index('test')
    feature_r2 = ridge.held_out_r2(table.features, scores, table.mask, test)
  return StoreSummary(
    masked=reward_table.count_masked(table),
    correlation=float(pairs.mean()) if pairs.size else float('nan'),
    feature_r2=feature_r2,
  )
