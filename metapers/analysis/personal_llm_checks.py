"""Checks of a store that says it is PersonalLLM, against what is published of it.

Reference:
  Zollo et al. 2024, arXiv:2409.20296; github.com/namkoong-lab/PersonalLLM, constants.py.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from metapers.analysis import vote_table
from metapers.core.population import SPLITS
from metapers.core.tables import RewardTable
from metapers.data import personal_llm, personal_llm_constants, reward_table

NUM_TRAIN = reward_table.NUM_PROMPTS - reward_table.NUM_TEST
POINTS, NATS = 2.0, 0.03  # how far a percentage and an entropy may be from what is published


class Verdict(NamedTuple):
  """A check. passed: None where it could not be made. found: in words."""

  check: str
  passed: bool | None
  found: str


def check_loaded(table: RewardTable) -> Verdict:
  """Returns whether the numbers of prompts and scores, and the statistics, are the published ones.

  9,402 and 1,000 prompts, 8 responses of ten finite scores, train mean and sd within 1e-3.
  """
  is_test = table.prompt_split == SPLITS.index('test')
  sizes = int((~is_test).sum()), int(is_test.sum())
  num_responses, num_models = table.rewards.shape[1:]
  missing = int((~np.isfinite(table.rewards)).sum())
  mean, std = all_statistics(table)
  constants = [personal_llm_constants.REWARD_MODELS[name] for name in table.reward_models]
  away = float(np.abs(np.stack([mean, std], 1) - np.array(constants)).max())
  passed = (
    sizes == (NUM_TRAIN, reward_table.NUM_TEST)
    and (num_responses, num_models, missing) == (personal_llm.NUM_RESPONSES, len(constants), 0)
    and away <= personal_llm.TOLERANCE
  )
  found = (
    f'{sizes[0]:,} + {sizes[1]:,} prompts, {num_responses} responses, {num_models} scores each, '
    f'{missing} of them not finite; train mean and sd within {away:.2g} of the published ones'
  )
  return Verdict('numbers of rows and scores; train mean and sd within .001', passed, found)


def all_statistics(table: RewardTable) -> tuple[np.ndarray, np.ndarray]:
  """Returns mean and sd of the train scores of all responses, as they are published.

  Repeated responses, which are never shown, are among them.
  """
  scores = np.asarray(table.rewards)[reward_table.is_train(table.prompt_split)]
  flat = scores.reshape(-1, scores.shape[-1]).astype(np.float64)
  return np.nanmean(flat, 0), np.nanstd(flat, 0)


def check_diversity(fits: pd.DataFrame) -> list[Verdict]:
  """Returns whether the table of diversity is within two points, under each convention.

  Args:
    fits: of `vote_table.fit`.
  """
  return [
    Verdict(
      f'diversity within {POINTS:g} points under {convention} scores',
      bool(own['value'].iloc[1] <= POINTS),
      f'mean difference {own["value"].iloc[0]:.2f} points, largest {own["value"].iloc[1]:.2f}',
    )
    for convention, own in fits.groupby('convention', sort=False)
    if list(own['statistic']) == list(vote_table.FITS)
  ]


def check_entropies(words: pd.DataFrame) -> list[Verdict]:
  """Returns whether entropies by word are within 0.03 nats, under each convention.

  Args:
    words: rows of a study, with what is published; none where there are no texts.
  """
  known = words[words['published'].notna() & words['value'].notna()]
  name = f'entropy by word within {NATS:g} nats'
  if known.empty:
    return [Verdict(name, None, 'no texts of the prompts, or no users of the published α')]
  verdicts = []
  for convention, own in known.groupby('convention', sort=False):
    away = (own['value'] - own['published']).abs()
    worst = own['group'].iloc[int(away.argmax())]
    found = f'largest difference {away.max():.3f} nats, at {worst}'
    verdicts.append(Verdict(f'{name} under {convention} scores', bool(away.max() <= NATS), found))
  return verdicts
