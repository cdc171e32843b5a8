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
