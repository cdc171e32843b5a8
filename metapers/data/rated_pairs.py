"""Ratings by real people, as the comparisons they imply."""

import numpy as np
import pandas as pd

from metapers.core.types import Float, Int
from metapers.data import people_tables
from metapers.data.people_tables import Pairs


def draw_pairs(
  ratings: Float[np.ndarray, 'N'],
  contexts: Int[np.ndarray, 'N'],
  order: np.ndarray | None,
  rng: np.random.Generator,
  *,
  min_rating_gap: float,
  max_comparisons: int,
) -> tuple[Int[np.ndarray, 'M'], Int[np.ndarray, 'M']]:
  """Draws distinct pairs of one person's rated items: the better ones and the worse ones.

  A pair is drawn if its ratings differ by more than `min_rating_gap` and its items share a
  context. It stands where the later of the two was rated, or at random without `order`.
  """
  first, second = np.triu_indices(len(ratings), 1)
  gaps = np.round(ratings[first] - ratings[second], 5)  # in float32, 1.07 - 0.07 is above 1
  clear = (np.abs(gaps) > min_rating_gap) & (contexts[first] == contexts[second])
  drawn = rng.permutation(np.flatnonzero(clear))[:max_comparisons]
  first, second, gaps = first[drawn], second[drawn], gaps[drawn]
  if order is not None:
    sequence = np.argsort(np.maximum(order[first], order[second]), kind='stable')
    first, second, gaps = first[sequence], second[sequence], gaps[sequence]
  return np.where(gaps > 0, first, second), np.where(gaps > 0, second, first)


def draw(
  judged: pd.DataFrame,
  user: Int[np.ndarray, 'M'],
  items: Int[np.ndarray, 'M'],
  contexts: Int[np.ndarray, 'I'],
  rng: np.random.Generator,
  *,
  min_rating_gap: float,
  max_comparisons: int,
) -> Pairs:
  """Draws every person's pairs of rated items, `items` [M] being their rows; see `draw_pairs`."""
  ratings = people_tables.numbers(judged, 'ratings', ['rating'])[:, 0]
  check_ratings(judged, ratings)
  order = people_tables.own_order(judged)
  by_person = np.split(np.argsort(user, kind='stable'), np.cumsum(np.bincount(user))[:-1])
  drawn = []
  for person, own in enumerate(by_person):
    better, worse = draw_pairs(
      ratings[own],
      contexts[items[own]],
      None if order is None else order[own],
      rng,
      min_rating_gap=min_rating_gap,
      max_comparisons=max_comparisons,
    )
    drawn.append(Pairs(np.full(len(better), person), items[own[better]], items[own[worse]]))
  return Pairs(*(np.concatenate(parts) for parts in zip(*drawn)))


def check_ratings(judged: pd.DataFrame, ratings: Float[np.ndarray, 'M']) -> None:
  """Refuses infinite ratings, and a person's second rating of an item.

  Raises:
    ValueError: naming the first such person and item.
  """
  infinite = ~np.isfinite(ratings)
  if infinite.any():
    raise ValueError(f'{infinite.sum()} ratings are not finite; drop those rows')
  again = judged.duplicated(['user_id', 'item_id']).to_numpy()
  if again.any():
    user, item = (judged[column].to_numpy()[again][0] for column in ('user_id', 'item_id'))
    raise ValueError(f'user_id={user} rates item_id={item} more than once; keep one of these rows')


def complete_raters(judged: pd.DataFrame, name: str, num_items: int) -> pd.DataFrame:
  """Keeps the ratings of the people who rated every item.

  Raises:
    ValueError: if nobody did, or if `name`, the table of judgements, is not one of ratings.
  """
  if name != 'ratings':
    raise ValueError(f'complete_raters_only needs a table of ratings, and there are only {name}')
  user = pd.factorize(judged['user_id'])[0]
  counts = np.bincount(user)[user]
  if counts.max() < num_items:
    raise ValueError(
      f'nobody rated all {num_items} items (the most is {counts.max()}); '
      'set complete_raters_only=False'
    )
  return judged.iloc[counts == num_items].reset_index(drop=True)
