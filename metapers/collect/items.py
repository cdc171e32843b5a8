"""The texts that a study compares, and the questions that can be asked of them."""

import itertools
import math
import pathlib
import shutil
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from metapers.core import files
from metapers.core.types import Float, Int
from metapers.data import comparisons, people_tables

MOST = 4096  # questions in the pool of a study
FILES = (
  'items.csv', 'items.parquet', people_tables.FEATURES, people_tables.ABOUT, people_tables.SOURCE,
)  # fmt: skip


class Items(NamedTuple):
  """I texts.

  ids: [I] texts. texts: [I]. context: [I] name of the group of each; only items of one are
  compared. features: [I, D], raw; D = 0 where there are none. names: of the features, or ().
  digest: sha256 of all of it.
  """

  ids: tuple[str, ...]
  texts: tuple[str, ...]
  context: tuple[str, ...]
  features: Float[np.ndarray, 'I D']
  names: tuple[str, ...]
  digest: str


def read(folder: str | pathlib.Path) -> Items:
  """Returns the items of a folder as `people_tables` describes it; they must have texts.

  Raises:
    ValueError: for a folder without items, or items without texts.
  """
  folder = pathlib.Path(folder)
  table = people_tables.read_items(folder)
  texts = people_tables.item_texts(table)
  if texts is None or not all(map(str.strip, texts)):
    raise ValueError(f'every item in {folder} needs a text (column text): it is what people read')
  found = people_tables.read_features(None, table, folder)
  context = table['context'] if 'context' in table else [''] * len(table)
  ids = tuple(map(str, table['item_id']))
  text_of = tuple(map(str, texts))
  parts = ''.join(itertools.chain(ids, text_of, map(str, context))).encode()
  return Items(
    ids,
    text_of,
    tuple(map(str, context)),
    np.asarray(found.values, np.float64),
    found.names,
    files.sha256(parts + comparisons.content_hash(found.values).encode()),
  )


def keep(source: str | pathlib.Path, folder: pathlib.Path) -> None:
  """Copies the files of items, so that a study holds all that its export needs."""
  with files.writing_folder(folder) as place:
    for name in FILES:
      if pathlib.Path(source, name).is_file():
        shutil.copyfile(files.within(source, name), place / name)


def pool(items: Items, num_candidates: int, seed: int) -> Int[np.ndarray, 'M K']:
  """Returns rows of the items of every question; of very many, MOST that are drawn.

  Candidates of a question share a context, and no two are equal in features or text.

  Raises:
    ValueError: if there is none.
  """
  groups = [
    np.flatnonzero(np.equal(items.context, name)).tolist() for name in dict.fromkeys(items.context)
  ]
  counts = [math.comb(len(rows), num_candidates) for rows in groups]
  if sum(counts) <= 4 * MOST:
    every = [q for rows in groups for q in itertools.combinations(rows, num_candidates)]
  else:
    every = _drawn(groups, counts, num_candidates, np.random.default_rng([seed, 0]))
  looks = _numbered(items.texts)
  reads = _numbered(map(tuple, items.features.tolist())) if items.features.size else looks
  found = np.array([q for q in every if _all_differ(q, looks) and _all_differ(q, reads)], int)
  if not found.size:
    raise ValueError(
      f'no {num_candidates} different items share a context; give more items, or set '
      'num_candidates lower'
    )
  rng = np.random.default_rng([seed, 1])
  return found if len(found) <= MOST else found[np.sort(rng.permutation(len(found))[:MOST])]


def target(items: Items, context: str) -> Int[np.ndarray, 'R']:
  """Returns the rows of the items of a context; '' is that with most items.

  Raises:
    ValueError: for a context that no item has.
  """
  if not context:
    context = max(dict.fromkeys(items.context), key=items.context.count)
  rows = np.flatnonzero(np.equal(items.context, context))
  if not rows.size:
    raise ValueError(f'target is {context!r}, and no item has that context')
  return rows


def _drawn(groups, counts, size, rng):
  share = np.array(counts, float) / sum(counts)
  found = set()
  while len(found) < MOST:
    for group in rng.choice(len(groups), MOST, p=share):
      found.add(tuple(sorted(rng.choice(groups[group], size, replace=False).tolist())))
  return sorted(found)[:: max(1, len(found) // MOST)]


def _numbered(values: Iterable[Hashable]) -> list[int]:
  """Returns numbers that are equal where values are."""
  first: dict[Hashable, int] = {}
  return [first.setdefault(value, number) for number, value in enumerate(values)]


def _all_differ(rows: Sequence[int], number: list[int]) -> bool:
  return len({number[row] for row in rows}) == len(rows)
