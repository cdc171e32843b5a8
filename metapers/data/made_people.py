"""Made-up people with known differences in what they prefer, as a folder of tables of real ones.

write_people('runs/made', 'types', num_people=200)
"""

import os
import pathlib
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from metapers.core.types import Float

KINDS = ('gaussian', 'types', 'same')
NUM_TYPES = 4


class Made(NamedTuple):
  """Made-up people and items: features [I, D] and weights [U, D]; utilities are their products."""

  features: Float[np.ndarray, 'I D']
  weights: Float[np.ndarray, 'U D']


def made_people(
  kind: str,
  *,
  num_people: int = 200,
  num_items: int = 100,
  num_features: int = 8,
  own_share: float = 0.7,
  spread: float = 2.0,
  seed: int = 0,
) -> Made:
  """Returns people with w_u = s (√(1 - a) m + √a z_u), where m and features are standard normal.

  z_u is of each person's own ('gaussian'), or that of one of four types ('types'); with a = 0
  people are all alike ('same').

  Args:
    kind: one of KINDS.
    num_people: U.
    num_items: I.
    num_features: D.
    own_share: a, of the variance of utilities that by which people differ.
    spread: standard deviation of the difference between two items' utilities, in logits; it is
      s √(2 D).
    seed: of everything drawn.

  Raises:
    ValueError: for an unknown kind.
  """
  if kind not in KINDS:
    raise ValueError(f'unknown kind {kind!r} of people; known: {", ".join(KINDS)}')
  rng = np.random.default_rng(seed)
  features = rng.standard_normal((num_items, num_features))
  common = rng.standard_normal(num_features)
  own = rng.standard_normal((num_people, num_features))
  if kind == 'types':
    own = own[rng.integers(0, min(NUM_TYPES, num_people), num_people)]
  share = 0.0 if kind == 'same' else own_share
  scale = spread / np.sqrt(2 * num_features)
  return Made(features, scale * (np.sqrt(1 - share) * common + np.sqrt(share) * own))


def compare(made: Made, num_comparisons: int, seed: int = 0) -> pd.DataFrame:
  """Returns a table of comparisons: pairs that differ from each other, by Bradley and Terry's rule.

  Args:
    made: who compares what.
    num_comparisons: of each person; all pairs of the items where they are fewer.
    seed: of pairs and choices.
  """
  rng = np.random.default_rng([seed, 1])
  pairs = np.stack(np.triu_indices(len(made.features), 1), 1)
  num_comparisons = min(num_comparisons, len(pairs))
  parts = []
  for user, utilities in enumerate(made.weights @ made.features.T):
    shown = pairs[rng.choice(len(pairs), num_comparisons, replace=False)]
    gap = utilities[shown[:, 0]] - utilities[shown[:, 1]]
    is_second = rng.uniform(size=len(shown)) > 1 / (1 + np.exp(-gap))
    chosen, rejected = np.where(is_second[:, None], shown[:, ::-1], shown).T
    parts.append(pd.DataFrame({'user_id': user, 'chosen': chosen, 'rejected': rejected}))
  return pd.concat(parts, ignore_index=True)


def write_people(
  folder: str | os.PathLike, kind: str, *, num_comparisons: int = 40, seed: int = 0, **options: Any
) -> pathlib.Path:
  """Writes items.csv with features and comparisons.csv into a folder, and returns it.

  Args:
    folder: made where there is none.
    kind: one of KINDS.
    num_comparisons: of each person.
    seed: of everything drawn.
    **options: of `made_people`.

  Raises:
    ValueError: for an unknown kind.
  """
  made, path = made_people(kind, seed=seed, **options), pathlib.Path(folder)
  path.mkdir(parents=True, exist_ok=True)
  names = [f'feature_{column}' for column in range(made.features.shape[1])]
  items = pd.DataFrame(made.features, columns=names)
  items.insert(0, 'item_id', range(len(items)))
  items.to_csv(path / 'items.csv', index=False)
  compare(made, num_comparisons, seed).to_csv(path / 'comparisons.csv', index=False)
  return path
