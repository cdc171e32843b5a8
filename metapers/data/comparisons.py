"""Comparisons or ratings by real people as `Histories`, from the files of `people_tables`.

Ratings become the comparisons that they imply: of two items of one context whose ratings differ by
more than a given gap, the higher rated one is the chosen one.
"""

import hashlib
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from absl import logging

from metapers.core import outcomes
from metapers.core.tables import Histories
from metapers.core.types import Bool, Float, Int
from metapers.data import frames, people_tables

TIES = ('outcomes', 'dropped')
UNREAD_TEXTS = (
  'the texts of the items in %s are not read; make features of them by python -m '
  'experiments.extract --config=experiments/configs/extract_people.py --config.source.path=%s'
)
ROUNDING = 1e-6  # of the largest rating: what two ratings in float32 may differ by too much


class ItemPairs(NamedTuple):
  """M comparisons, person by person and each person's in order.

  user: [M] number of the person. chosen, rejected: [M] rows of the table of items.
  outcome: [M], see `tables.Histories`; None where all are choices.
  """

  user: Int[np.ndarray, 'M']
  chosen: Int[np.ndarray, 'M']
  rejected: Int[np.ndarray, 'M']
  outcome: Int[np.ndarray, 'M'] | None = None


class UserRows(NamedTuple):
  """Comparisons of the U people who are kept, of U_all people, a row each.

  kept: [U_all]. chosen, rejected: [U, N] rows of the table of items. mask: [U, N]. outcome: [U, N],
  see `tables.Histories`; None where all are choices.
  """

  kept: Bool[np.ndarray, 'U_all']
  chosen: Int[np.ndarray, 'U N']
  rejected: Int[np.ndarray, 'U N']
  mask: Bool[np.ndarray, 'U N']
  outcome: Int[np.ndarray, 'U N'] | None = None


def load_comparisons(
  path: str,
  *,
  min_rating_gap: float = 1.0,
  min_comparisons: int = 2,
  max_comparisons: int = 400,
  complete_raters_only: bool = False,
  features: str | Sequence[str] | None = None,
  pair_seed: int = 0,
  ties: str = 'dropped',
  strong_from: int = 0,
) -> Histories:
  """Returns the comparisons of the people of a folder of tables.

  Args:
    path: a folder as `people_tables` describes.
    min_rating_gap: two ratings become a comparison if they differ by more, in units of ratings.
    min_comparisons: people with fewer are left out, and counted.
    max_comparisons: kept of each person: the first ones, or as many drawn pairs of rated items.
    complete_raters_only: keep only people who rated every item, since what others rated may depend
      on what they prefer.
    features: one or more columns of `items`, or the name of an .npy file [I, D] in the folder. By
      default all columns of `items` but item_id, context and text, or features.npy; without any,
      one-hot ids.
    pair_seed: of the drawn pairs, and of the order of comparisons where none is known.
    ties: 'dropped' leaves out, and the log counts, answers that prefer neither item; 'outcomes'
      keeps them, for who reads `Histories.outcome`.
    strong_from: the least strength of a choice that is told apart as "much better"; 0 for none.

  Raises:
    ValueError: for an impossible option, a table that is absent, empty, unreadable or inconsistent,
      or if no person is left; names what was given and the way out.
  """
  check_options(path, min_rating_gap, min_comparisons, max_comparisons, ties)
  folder, rng = pathlib.Path(path), np.random.default_rng(pair_seed)
  items = people_tables.read_items(folder)
  kind, preferences = people_tables.read_preferences(folder)
  values, names, identity = people_tables.read_features(features, items, folder)
  if identity and 'text' in items:
    logging.warning(UNREAD_TEXTS, folder, folder)
  if complete_raters_only:
    preferences = complete_raters(preferences, kind, len(items))
  outcome = people_tables.answers(preferences, strong_from) if kind == 'comparisons' else None
  num_ties = len(preferences)
  if outcome is not None and ties == 'dropped':
    preferences, outcome = choices_only(preferences, outcome)
  num_ties -= len(preferences)
  user, user_ids = pd.factorize(preferences['user_id'])
  rows = people_tables.locate(
    items, preferences[list(people_tables.PREFERENCE_IDS[kind])].to_numpy(), kind
  )
  contexts = people_tables.item_contexts(items, preferences, rows)
  if kind == 'comparisons':
    check_pairs(rows, contexts, items['item_id'].to_numpy())
    pairs = ordered_pairs(preferences, user, rows, rng, outcome)
  else:
    limits = {'min_rating_gap': min_rating_gap, 'max_comparisons': max_comparisons}
    pairs = pairs_of_ratings(preferences, user, rows[:, 0], contexts, rng, **limits)
  found = tabulate(pairs, len(user_ids), min_comparisons, max_comparisons)
  few = np.bincount(pairs.user, minlength=len(user_ids))[~found.kept]
  return Histories(
    features=values,
    item_ids=items['item_id'].to_numpy(),
    user_ids=np.asarray(user_ids)[found.kept],
    chosen=found.chosen,
    rejected=found.rejected,
    mask=found.mask,
    context=contexts,
    identity=identity,
    num_dropped=int((~found.kept).sum()),
    source=f'{folder.name}: {kind} by real people',
    content_hash=content_hash(
      values, contexts, found.chosen, found.rejected, found.mask, *_given(found.outcome)
    ),
    feature_names=names,
    item_texts=people_tables.item_texts(items),
    licence=people_tables.licence_of(folder),
    outcome=found.outcome,
    remarks=remarks_of(kind, preferences, few, num_ties=num_ties, min_comparisons=min_comparisons),
  )


def remarks_of(
  kind: str,
  preferences: pd.DataFrame,
  few: Int[np.ndarray, 'L'],
  *,
  num_ties: int,
  min_comparisons: int,
) -> str:
  """Returns in words what of a table is left out, and what counts more than once.

  Args:
    kind: 'comparisons' or 'ratings'.
    preferences: what is read.
    few: numbers of comparisons of the people who are left out for having fewer than asked.
    num_ties: answers left out that prefer neither item.
    min_comparisons: the least number of comparisons.
  """
  read = [name for name in people_tables.columns_read(kind) if name in preferences]
  num_again = int(preferences[read].duplicated().sum())
  said = {
    f'left out: {few.size} people with fewer than {min_comparisons} comparisons ({few.sum()} in '
    'all)': few.size,
    f'left out: {num_ties} answers that prefer neither item': num_ties,
    f'{num_again} rows stand there again, and count again': num_again,
  }
  return '; '.join(words for words, number in said.items() if number)


def choices_only(
  comparisons: pd.DataFrame, outcome: Int[np.ndarray, 'M']
) -> tuple[pd.DataFrame, Int[np.ndarray, 'M'] | None]:
  """Returns the comparisons in which one item is preferred.

  Raises:
    ValueError: if there is none.
  """
  kept = (outcome == 0) | (outcome == 1 + outcomes.KINDS.index('strong'))
  if not kept.any():
    raise ValueError('no comparison has a preferred item; ties=outcomes keeps the others')
  if not kept.all():
    logging.info(
      '%d comparisons that prefer neither item are left out; ties=outcomes keeps them',
      int((~kept).sum()),
    )
  left = outcome[kept]
  return comparisons[kept].reset_index(drop=True), left if left.any() else None


def check_options(
  path: str, min_rating_gap: float, min_comparisons: int, most: int, ties: str
) -> None:
  """Checks the options of `load_comparisons`.

  Raises:
    ValueError: naming the option, the value given and the values allowed.
  """
  if ties not in TIES:
    raise ValueError(f'ties must be {" or ".join(TIES)}, got {ties!r}')
  if not path or not pathlib.Path(path).is_dir():
    raise ValueError(
      f'path={path!r} is no folder; give one that holds items and comparisons or ratings '
      f'(.parquet or .csv){people_tables.IMPORT}'
    )
  if not min_rating_gap >= 0:
    raise ValueError(f'min_rating_gap must be >= 0, got {min_rating_gap}; 0 leaves out only ties')
  if not 1 <= min_comparisons <= most:
    raise ValueError(
      f'need 1 <= min_comparisons <= max_comparisons, got {min_comparisons} and {most}'
    )


def check_pairs(
  rows: Int[np.ndarray, 'M 2'], contexts: Int[np.ndarray, 'I'], item_ids: np.ndarray
) -> None:
  """Checks that two different items of one context are compared.

  Raises:
    ValueError: naming the items of the first comparison for which this does not hold.
  """
  for wrong, what in (
    (rows[:, 0] == rows[:, 1], 'an item is compared with itself'),
    (contexts[rows[:, 0]] != contexts[rows[:, 1]], 'the items are of different contexts'),
  ):
    if wrong.any():
      chosen, rejected = item_ids[rows[wrong][0]].tolist()
      raise ValueError(
        f'{what} in {wrong.sum()} comparisons, such as chosen={chosen!r}, rejected={rejected!r}; '
        'drop those rows'
      )


def ordered_pairs(
  comparisons: pd.DataFrame,
  user: Int[np.ndarray, 'M'],
  rows: Int[np.ndarray, 'M 2'],
  rng: np.random.Generator,
  outcome: Int[np.ndarray, 'M'] | None = None,
) -> ItemPairs:
  """Returns comparisons by person, in the person's order; a random one where none is known."""
  order = people_tables.own_order(comparisons)
  sequence = np.lexsort((rng.permutation(len(user)) if order is None else order, user))
  pairs = ItemPairs(user[sequence], rows[sequence, 0], rows[sequence, 1])
  return pairs if outcome is None else pairs._replace(outcome=outcome[sequence])


def complete_raters(preferences: pd.DataFrame, kind: str, num_items: int) -> pd.DataFrame:
  """Returns the ratings of the people who rated every item.

  Raises:
    ValueError: if there is no such person, or `kind`, what the table holds, is not 'ratings'.
  """
  if kind != 'ratings':
    raise ValueError(f'complete_raters_only needs a table of ratings, and there are only {kind}')
  user = pd.factorize(preferences['user_id'])[0]
  counts = np.bincount(user)[user]
  if counts.max() < num_items:
    raise ValueError(
      f'no person rated all {num_items} items (the most is {counts.max()}); '
      'set complete_raters_only=False'
    )
  return preferences.iloc[counts == num_items].reset_index(drop=True)


def pairs_of_ratings(
  preferences: pd.DataFrame,
  user: Int[np.ndarray, 'M'],
  items: Int[np.ndarray, 'M'],
  contexts: Int[np.ndarray, 'I'],
  rng: np.random.Generator,
  *,
  min_rating_gap: float,
  max_comparisons: int,
) -> ItemPairs:
  """Returns drawn pairs of every person's rated items, `items` [M] being rows; see `draw_pairs`.

  Raises:
    ValueError: for ratings that are not finite or stand twice, or that no gap tells apart.
  """
  ratings = frames.numbers(preferences, ['rating'], 'ratings')[:, 0]
  check_ratings(preferences, ratings)
  order = people_tables.own_order(preferences)
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
    drawn.append((np.full(len(better), person), items[own[better]], items[own[worse]]))
  pairs = ItemPairs(*(np.concatenate(parts) for parts in zip(*drawn)))
  if not pairs.user.size:
    raise ValueError(
      f'no two ratings by a person, of items of one context, differ by more than '
      f'min_rating_gap={min_rating_gap}; ratings lie in {ratings.min():g}..{ratings.max():g}: '
      'lower it, 0 leaves out only ties'
    )
  return pairs


def check_ratings(preferences: pd.DataFrame, ratings: Float[np.ndarray, 'M']) -> None:
  """Checks that ratings are finite, and that no person rates an item twice.

  Raises:
    ValueError: naming the first person and item for which this does not hold.
  """
  infinite = ~np.isfinite(ratings)
  if infinite.any():
    raise ValueError(f'{infinite.sum()} ratings are not finite; drop those rows')
  again = preferences.duplicated(['user_id', 'item_id']).to_numpy()
  if again.any():
    user, item = (preferences[column].to_numpy()[again][0] for column in ('user_id', 'item_id'))
    raise ValueError(f'user_id={user} rates item_id={item} more than once; keep one of these rows')


def draw_pairs(
  ratings: Float[np.ndarray, 'N'],
  contexts: Int[np.ndarray, 'N'],
  order: np.ndarray | None,
  rng: np.random.Generator,
  *,
  min_rating_gap: float,
  max_comparisons: int,
) -> tuple[Int[np.ndarray, 'M'], Int[np.ndarray, 'M']]:
  """Returns distinct pairs of one person's rated items: the better ones and the worse ones.

  A pair is drawn if its ratings differ by more than `min_rating_gap` and its items share a
  context. Its place is where the later of the two was rated, or random without `order`.
  """
  first, second = np.triu_indices(len(ratings), 1)
  gaps = ratings[first] - ratings[second]
  # In float32 1.07 - 0.07 is above 1. A gap of 0 leaves out ties alone, however near others are.
  least = min_rating_gap and min_rating_gap + ROUNDING * np.abs(ratings).max(initial=0)
  clear = (np.abs(gaps) > least) & (contexts[first] == contexts[second])
  drawn = rng.permutation(np.flatnonzero(clear))[:max_comparisons]
  first, second, gaps = first[drawn], second[drawn], gaps[drawn]
  if order is not None:
    sequence = np.argsort(np.maximum(order[first], order[second]), kind='stable')
    first, second, gaps = first[sequence], second[sequence], gaps[sequence]
  return np.where(gaps > 0, first, second), np.where(gaps > 0, second, first)


def tabulate(
  pairs: ItemPairs, num_users: int, min_comparisons: int, max_comparisons: int
) -> UserRows:
  """Returns the first comparisons of each person who has enough of them, a row a person.

  Raises:
    ValueError: if no person has.
  """
  counts = np.bincount(pairs.user, minlength=num_users)
  kept = counts >= min_comparisons
  if not kept.any():
    raise ValueError(
      f'none of {num_users} people has min_comparisons={min_comparisons} comparisons; '
      f'the most anyone has is {counts.max()}: lower it'
    )
  rank = np.arange(len(pairs.user)) - np.repeat(np.cumsum(counts) - counts, counts)
  used = kept[pairs.user] & (rank < max_comparisons)
  shape = int(kept.sum()), min(int(counts.max()), max_comparisons)
  place = (np.cumsum(kept) - 1)[pairs.user[used]], rank[used]
  chosen, rejected = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
  mask = np.zeros(shape, bool)
  chosen[place], rejected[place], mask[place] = pairs.chosen[used], pairs.rejected[used], True
  rows = UserRows(kept, chosen, rejected, mask)
  if pairs.outcome is None:
    return rows
  outcome = np.zeros(shape, np.int32)
  outcome[place] = pairs.outcome[used]
  return rows._replace(outcome=outcome)


def content_hash(*arrays: np.ndarray) -> str:
  """Returns the sha256 of the arrays' dtypes, shapes and bytes."""
  digest = hashlib.sha256()
  for array in arrays:
    kind = f'{array.dtype}{array.shape}'
    digest.update(kind.encode() + np.ascontiguousarray(array).tobytes())
  return digest.hexdigest()


def _given(*arrays: np.ndarray | None) -> list[np.ndarray]:
  return [array for array in arrays if array is not None]
