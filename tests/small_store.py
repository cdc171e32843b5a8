"""A small population of simulated users on Gaussian scores of three reward models."""

import functools

import numpy as np

from metapers.core.tables import RewardTable
from metapers.populations.reward_ensemble import reward_ensemble


@functools.cache
def small_table():
  """120 prompts of 4 responses: 60 train, 30 validation, 30 test."""
  rng = np.random.default_rng(3)
  rewards = rng.standard_normal((120, 4, 3)).astype(np.float32)
  models = np.tile(np.arange(4), (120, 1))
  names, statistics = tuple('abcd'), (np.zeros(3, np.float32), np.ones(3, np.float32))
  split = np.repeat([0, 1, 2], [60, 30, 30])
  every = np.ones((120, 4), bool)
  return RewardTable(
    rewards, None, every, ('x', 'y', 'z'), models, names, *statistics, split, 'synthetic', 'hash'
  )


def small_population(**options):
  """Users of α = 0.5 who see it."""
  return reward_ensemble(
    small_table(), **{'concentration': 0.5, 'num_query': 8, 'num_held_out': 20, **options}
  )
