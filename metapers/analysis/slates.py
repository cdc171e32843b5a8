"""What studies read of a store: slates of responses, under two conventions of weighting scores."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from metapers.core.population import SPLITS
from metapers.core.tables import RewardTable
from metapers.core.types import Bool, Float, Int
from metapers.data import personal_llm, personal_llm_constants, reward_table
from metapers.populations import dirichlet

CONVENTIONS = ('z', 'raw')  # z-scores by the train prompts, or scores as the models give them
ALL = 'all'  # the prompts of every split


class Slates(NamedTuple):
  """P prompts with R responses each, of which at least two are real.

  scores: convention -> [P, R, B]; 0 where masked. mask: [P, R], True where a response is real.
  response_model: [P, R], index of `response_models`. reward_models: B names. features: [P, R, D] or
  None. rows: [P] of the prompts in the store. is_personal_llm: whether published numbers are of
  this store.
  """

  scores: dict[str, Float[np.ndarray, 'P R B']]
  mask: Bool[np.ndarray, 'P R']
  response_model: Int[np.ndarray, 'P R']
  response_models: tuple[str, ...]
  reward_models: tuple[str, ...]
  features: Float[np.ndarray, 'P R D'] | None
  rows: Int[np.ndarray, 'P']
  is_personal_llm: bool

  def only(self, kept: np.ndarray) -> 'Slates':
    """Returns the slates of some of the prompts, by their places or a mask [P]."""
    return self._replace(
      scores={name: each[kept] for name, each in self.scores.items()},
      mask=self.mask[kept],
      response_model=self.response_model[kept],
      features=None if self.features is None else self.features[kept],
      rows=self.rows[kept],
    )


def slates_of(table: RewardTable, *, split: str = 'test') -> Slates:
  """Returns the slates of a store's prompts.

  Args:
    table: of the store.
    split: of the prompts, one of SPLITS, or ALL.

  Raises:
    ValueError: for another split, or one without a prompt that has two real responses.
  """
  if split not in (*SPLITS, ALL):
    raise ValueError(f'split must be one of {", ".join((*SPLITS, ALL))}, got {split!r}')
  kept = table.mask.sum(1) > 1
  if split != ALL:
    kept &= table.prompt_split == SPLITS.index(split)
  rows = np.flatnonzero(kept)
  if not rows.size:
    raise ValueError(f'no prompt of the split {split!r} has two responses; try split={ALL!r}')
  mask, raw = table.mask[rows], np.asarray(table.rewards[rows])
  scores_z = reward_table.z_scores(raw, mask, table.mean, table.std)
  return Slates(
    scores={'z': scores_z, 'raw': np.where(mask[..., None], raw, 0).astype(np.float32)},
    mask=mask,
    response_model=table.response_model[rows],
    response_models=table.response_models,
    reward_models=table.reward_models,
    features=None if table.features is None else np.asarray(table.features[rows], np.float32),
    rows=rows,
    is_personal_llm=is_personal_llm(table),
  )


def is_personal_llm(table: RewardTable) -> bool:
  """Tells whether a store was made of PersonalLLM itself: by its source and all names."""
  return (
    personal_llm.DATA_SET in table.source
    and set(table.reward_models) == set(personal_llm_constants.REWARD_MODELS)
    and set(table.response_models) == set(personal_llm_constants.RESPONSE_MODELS)
  )


def draw_users(
  concentration: float, *, num_draws: int, num_users: int, num_models: int, seed: int = 0
) -> Float[np.ndarray, 'draws U B']:
  """Returns the weights of several draws of users from Dirichlet(α·1_B), α = `concentration`."""
  rng = np.random.default_rng([seed, round(1e6 * concentration)])
  drawn = dirichlet.sample_log_weights(rng, num_draws * num_users, concentration, num_models)
  return np.exp(drawn).reshape(num_draws, num_users, num_models)


def different(concentrations: Sequence[float]) -> tuple[list[float], list[float]]:
  """Returns concentrations once each, in their order, and those that were given again."""
  once = list(dict.fromkeys(concentrations))
  return once, [value for value in once if list(concentrations).count(value) > 1]
