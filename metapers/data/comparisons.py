"""Comparisons or ratings by real people, as `Histories`; `people_tables` says what is read."""

import hashlib
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from metapers.core.tables import Histories
from metapers.core.types import Bool, Int
from metapers.data import people_tables, rated_pairs
from metapers.data.people_tables import Pairs


def check_pairs(
  rows: Int[np.ndarray, 'M 2'], contexts: Int[np.ndarray, 'I'], item_ids: np.ndarray
) -> None:
  """Refuses an item compared with itself, and items of different contexts.

  Raises:
    ValueError: naming the items of the first such comparison.
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


def pairs_of_comparisons(
  judged: pd.DataFrame,
  user: Int[np.ndarray, 'M'],
  rows: Int[np.ndarray, 'M 2'],
  rng: np.random.Generator,
) -> Pairs:
  """Sorts comparisons by person, then in their own order, or at random where none is known."""
  order = people_tables.own_order(judged)
  sequence = np.lexsort((rng.permutation(len(user)) if order is None else order, user))
  return Pairs(user[sequence], rows[sequence, 0], rows[sequence, 1])


class Tables(NamedTuple):
  """Comparisons of U kept people: kept [U_all]; chosen, rejected and mask [U, N]."""

  kept: Bool[np.ndarray, 'U_all']
  chosen: Int[np.ndarray, 'U N']
  rejected: Int[np.ndarray, 'U N']
  mask: Bool[np.ndarray, 'U N']


def tabulate(pairs: Pairs, num_users: int, min_comparisons: int, max_comparisons: int) -> Tables:
  """Arranges the first comparisons of everyone who has enough of them as tables.

  Raises:
    ValueError: if nobody has.
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
  chosen, rejected, mask = (
    np.zeros(shape, np.int32),
    np.zeros(shape, np.int32),
    np.zeros(shape, bool),
  )
  chosen[place], rejected[place], mask[place] = pairs.chosen[used], pairs.rejected[used], True
  return Tables(kept, chosen, rejected, mask)


def content_hash(*arrays: np.ndarray) -> str:
  """Returns the sha256 of the arrays' shapes and bytes."""
  digest = hashlib.sha256()
  for array in arrays:
    digest.update(str(array.shape).encode() + np.ascontiguousarray(array).tobytes())
  return digest.hexdigest()


def check_options(path: str, min_rating_gap: float, min_comparisons: int, most: int) -> None:
  """Refuses what no table could satisfy.

  Raises:
    ValueError: naming the option, what was given and what would do.
  """
  if not path or not pathlib.Path(path).is_dir():
    raise ValueError(
      f'path={path!r} is no folder; give one that holds items and comparisons or ratings '
      '(.parquet or .csv)'
    )
  if not min_rating_gap >= 0:
    raise ValueError(f'min_rating_gap must be >= 0, got {min_rating_gap}; 0 leaves out only ties')
  if not 1 <= min_comparisons <= most:
    raise ValueError(
      f'need 1 <= min_comparisons <= max_comparisons, got {min_comparisons} and {most}'
    )


def load_comparisons(
  path: str,
  *,
  min_rating_gap: float = 1.0,
  min_comparisons: int = 2,
  max_comparisons: int = 400,
  complete_raters_only: bool = False,
  features: str | Sequence[str] | None = None,
  pair_seed: int = 0,
) -> Histories:
  """Reads what people chose, or rated, from a folder of tables.

  Args:
    path: a folder as `people_tables` describes.
    min_rating_gap: two ratings become a comparison if they differ by more, in units of ratings.
    min_comparisons: people with fewer are left out, and counted.
    max_comparisons: kept of each person: the first ones, or as many drawn pairs of rated items.
    complete_raters_only: keep only people who rated every item, for what others rated may depend
      on their taste.
    features: columns of `items`, or the name of an .npy file [I, D] in the folder. By default all
      columns of `items` but item_id, context and text; without any, one-hot ids.
    pair_seed: of the drawn pairs, and of the order of comparisons where none is known.

  Raises:
    ValueError: for an impossible option, a table that is absent, empty, unreadable or inconsistent,
      or if nobody is left; names what was given and the way out.
  """
  check_options(path, min_rating_gap, min_comparisons, max_comparisons)
  folder, rng = pathlib.Path(path), np.random.default_rng(pair_seed)
  items = people_tables.read_items(folder)
  name, judged = people_tables.read_judgements(folder)
  values, identity = people_tables.read_features(features, items, folder)
  if complete_raters_only:
    judged = rated_pairs.complete_raters(judged, name, len(items))
  user, user_ids = pd.factorize(judged['user_id'])
  rows = people_tables.locate(items, judged[list(people_tables.JUDGED_IDS[name])].to_numpy(), name)
  contexts = people_tables.item_contexts(items, judged, rows)
  if name == 'comparisons':
    check_pairs(rows, contexts, items['item_id'].to_numpy())
    pairs = pairs_of_comparisons(judged, user, rows, rng)
  else:
    pairs = rated_pairs.draw(
      judged,
      user,
      rows[:, 0],
      contexts,
      rng,
      min_rating_gap=min_rating_gap,
      max_comparisons=max_comparisons,
    )
  tables = tabulate(pairs, len(user_ids), min_comparisons, max_comparisons)
  return Histories(
    features=values,
    item_ids=items['item_id'].to_numpy(),
    user_ids=np.asarray(user_ids)[tables.kept],
    chosen=tables.chosen,
    rejected=tables.rejected,
    mask=tables.mask,
    context=contexts,
    identity=identity,
    num_dropped=int((~tables.kept).sum()),
    source=f'{folder.name}: {name} by real people',
    content_hash=content_hash(values, tables.chosen, tables.rejected, tables.mask),
  )
