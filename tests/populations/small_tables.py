"""A small table of scores, in which the last response of every prompt is missing."""

import numpy as np

from metapers.core.tables import RewardTable

NAMES = ('first', 'second', 'third')


def table(num_prompts=120, num_responses=6, num_features=5):
  rng = np.random.default_rng(0)
  rewards = (3 + 2 * rng.standard_normal((num_prompts, num_responses, 3))).astype(np.float32)
  split = np.repeat([0, 1, 2], [num_prompts - 60, 30, 30])
  features = rng.standard_normal((num_prompts, num_responses, num_features)).astype(np.float32)
  mask = np.ones((num_prompts, num_responses), bool)
  mask[:, -1] = False
  rewards[:, -1] = np.nan
  models = np.tile(np.arange(num_responses), (num_prompts, 1))
  statistics = np.full(3, 3, np.float32), np.full(3, 2, np.float32)
  names = tuple(f'model {i}' for i in range(num_responses))
  return RewardTable(
    rewards, features, mask, NAMES, models, names, *statistics, split, 'synthetic', 'hash'
  )
