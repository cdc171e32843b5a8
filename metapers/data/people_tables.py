"""Tables of what real people preferred (parquet or csv), read and checked.

A folder holds `items` (item_id [, context, text] and feature columns) and either `comparisons`
(user_id, chosen, rejected [, context, order, outcome, strength]) or `ratings` (user_id, item_id,
rating [, context, order]). `context` is the group (a prompt, a topic) that the items of a
comparison share; `order` is the person's own sequence. `outcome` is 'chosen' (as is none), or
'tie' or 'both_bad', and then `chosen` and `rejected` are the two items in any order; `strength` is
how clear a choice is, a number, or nothing where that is not known. Other columns of comparisons or
ratings are ignored, and the log names them.
"""

import decimal
import json
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from absl import logging

from metapers.core import array_files, fields, files, outcomes
from metapers.core.types import Float, Int
from metapers.data import frames, rendering

ITEM_COLUMNS = ('item_id', 'context', 'text')  # every other column of `items` is a feature
FEATURES = 'features.npy'  # [I, D], made of the items' texts
ABOUT = 'features.json'  # where they are from, and of which items
MADE_OF = 'items'  # field of the .json beside them: column of `items` -> digest
MADE_BY = 'features_made_by'  # another: the encoder and options, by which new texts get features
SOURCE = 'source.json'  # where the tables are from, and their licence
IDS = ('user_id', 'item_id', 'chosen', 'rejected', 'context', 'order')  # read as texts
# An id that pandas takes for a missing value is empty in the csv that it writes.
AS_TEXTS = (
  '; if they were ids such as NA, None or null, which pandas reads as missing, write the file anew '
  'from pd.read_csv(..., dtype=str, keep_default_na=False)'
)
IMPORT = (
  '; of a file of choices between texts, python -m experiments.import_people --file=FILE '
  '--out=FOLDER makes such a folder'
)
# How pandas and others name the index of a table that they wrote as a column.
INDEX = re.compile(r'Unnamed: \d+|__index_level_\d+__|index|level_\d+|')
OFFSET = re.compile(r'[T ].*(?:Z|[+-]\d\d(?::?\d\d)?)$')  # from UTC, of a date with a time
PREFERENCE_IDS = {'comparisons': ('chosen', 'rejected'), 'ratings': ('item_id',)}
PREFERENCE_COLUMNS = {
  'comparisons': ('user_id', *PREFERENCE_IDS['comparisons']),
  'ratings': ('user_id', *PREFERENCE_IDS['ratings'], 'rating'),
}

ANSWERS = {'comparisons': ('outcome', 'strength'), 'ratings': ()}
OUTCOMES = ('chosen', *outcomes.NO_CHOICE)
NOTES = ('conversation', 'turn')  # of `hub_people.write_people`, for who looks into the table
TIMES = ('timestamp', 'time', 'date', 'datetime', 'created_at')


def read_table(folder: pathlib.Path, name: str) -> pd.DataFrame:
  """Returns the table of `name`.parquet or `name`.csv.

  Raises:
    ValueError: if there is neither or both, or if it cannot be read or has no rows.
  """
  paths = _found(folder, name)
  if len(paths) != 1:
    found = 'both' if paths else 'neither'
    raise ValueError(f'{folder} must hold {name}.parquet or {name}.csv; found {found}{IMPORT}')
  table = frames.read_frame(paths[0])
  if table.empty:
    raise ValueError(f'{paths[0]} has no rows; give at least one')
  return table.assign(**{name: frames.ids(table, name) for name in IDS if name in table})


def _found(folder: pathlib.Path, name: str) -> list[pathlib.Path]:
  paths = [folder / f'{name}{suffix}' for suffix in ('.parquet', '.csv')]
  return [path for path in paths if path.is_file()]


def read_items(folder: pathlib.Path) -> pd.DataFrame:
  """Returns the table of items.

  Raises:
    ValueError: if it lacks item_id, or names an item twice.
  """
  items = read_table(folder, 'items')
  check_columns(items, 'items', ['item_id'])
  twice = items['item_id'].to_numpy()[items['item_id'].duplicated()]
  if len(twice):
    raise ValueError(f'item_id must be unique in items; {twice[:3].tolist()} stand there again')
  return items


def item_texts(items: pd.DataFrame) -> np.ndarray | None:
  """Returns the texts of the items [I], '' for none; None where they have no texts."""
  return items['text'].fillna('').astype(str).to_numpy(object) if 'text' in items else None


def licence_of(folder: pathlib.Path) -> str:
  """Returns the licence of a folder's tables, as its source.json says it; '' where it does not."""
  path = folder / SOURCE
  if not path.is_file():
    return ''
  about = {'licence': '', **files.read_json(path)}
  fields.check(path, about, {'licence': str})
  return about['licence']


def read_preferences(folder: pathlib.Path) -> tuple[str, pd.DataFrame]:
  """Returns 'comparisons' or 'ratings', whichever the folder holds, and the table.

  Raises:
    ValueError: unless the folder holds either comparisons or ratings, with their columns.
  """
  names = [name for name in PREFERENCE_COLUMNS if _found(folder, name)]
  if len(names) != 1:
    raise ValueError(
      f'{folder} must hold either comparisons or ratings (.parquet or .csv); found {names}{IMPORT}'
    )
  preferences = read_table(folder, names[0])
  check_columns(preferences, names[0], PREFERENCE_COLUMNS[names[0]])
  name_unread(preferences, names[0])
  return names[0], preferences


def columns_read(name: str) -> tuple[str, ...]:
  """Returns the columns that comparisons or ratings may have."""
  return (*PREFERENCE_COLUMNS[name], 'context', 'order', *ANSWERS[name])


def name_unread(preferences: pd.DataFrame, name: str) -> None:
  """Logs the columns that are not read.

  Raises:
    ValueError: for weights, without which the table says something else.
  """
  read = (*columns_read(name), *NOTES)
  unread = [str(column) for column in preferences if column not in read]
  if 'weight' in unread:
    raise ValueError(
      f"column 'weight' of {name} is not read, as every row counts once: drop it, or make a "
      'population of your own that sets Choices.weight by task.choices(..., weight=...)'
    )
  times = [column for column in unread if column.lower() in TIMES and 'order' not in preferences]
  if times:
    logging.warning('%s have no order: if %s tells it, rename it to order', name, times[0])
  if unread:
    logging.warning('columns of %s that are not read: %s', name, ', '.join(unread))


def check_columns(table: pd.DataFrame, name: str, required: Sequence[str]) -> None:
  """Checks that a table has its columns, and no missing value in those that are used.

  Raises:
    ValueError: naming the columns.
  """
  absent = [column for column in required if column not in table]
  if absent:
    raise ValueError(f'table {name} lacks the columns {absent}; it has {list(table.columns)}')
  used = [column for column in (*required, 'context', 'order') if column in table]
  holes = {column: int(table[column].isna().sum()) for column in used}
  column = max(used, key=holes.__getitem__)
  if holes[column]:
    hint = AS_TEXTS if column in IDS else ''
    row = int(np.flatnonzero(table[column].isna())[0])
    user = f' of user_id {table["user_id"].iloc[row]}' if 'user_id' in table else ''
    raise ValueError(
      f'{holes[column]} missing values in {column!r} of {name}, the first in row {row + 1}{user} '
      f'(from 1, without the header); drop those rows{hint}'
    )


class ItemFeatures(NamedTuple):
  """Features of I items.

  values: [I, D], as exact as the file: 1700000001 and 1700000002 are one number in float32, and two
    once they are scaled; [I, 0] where they are only one-hot ids, which `identity` says.
  names: of the D columns; () where they have none.
  """

  values: Float[np.ndarray, 'I D']
  names: tuple[str, ...]
  identity: bool


def read_features(
  features: str | Sequence[str] | None, items: pd.DataFrame, folder: pathlib.Path
) -> ItemFeatures:
  """Returns the features of the items.

  Raises:
    ValueError: for unknown or non-numeric features, those that float32 holds as no finite number,
      a wrong number of rows, or those that were made of other items.
  """
  columns: list[str] = []
  given = [features] if isinstance(features, str) else features
  if isinstance(features, str) and features.endswith('.npy'):
    values = _load_npy(folder / features, len(items))
    _check_made_of(folder / features, items)
  else:
    columns = feature_columns(items) if given is None else list(given)
    made = folder / FEATURES
    if features is None and made.is_file():
      if columns:
        raise ValueError(
          f'{folder} holds {FEATURES} and items have the columns {columns}: name the features by '
          f"features='{FEATURES}', or as columns"
        )
      return read_features(FEATURES, items, folder)
    if not columns:
      return ItemFeatures(np.zeros((len(items), 0), np.float32), (), identity=True)
    check_columns(items, 'items', columns)
    values = frames.numbers(items, columns, 'items')
  bad = ~(np.abs(values) <= np.finfo(np.float32).max).all(1)
  if bad.any():
    named = items['item_id'].to_numpy()[bad][:3].tolist()
    raise ValueError(f'{bad.sum()} items have non-finite features, such as {named}; drop or fill')
  return ItemFeatures(values, tuple(columns), identity=False)


def feature_columns(items: pd.DataFrame) -> list[str]:
  """Returns the columns of `items` that are features, where none are named.

  Raises:
    ValueError: for a column that is the index of a table, which says nothing of the items, or one
      of choices.
  """
  columns = [str(column) for column in items if column not in ITEM_COLUMNS]
  indices = [column for column in columns if INDEX.fullmatch(column)]
  if indices:
    raise ValueError(
      f'columns {indices} of items are named like the index of a table, which is no feature: drop '
      'them (to_csv(..., index=False)), or name the features by features='
    )
  of_choices = [column for column in columns if column in IDS]
  if of_choices:
    raise ValueError(
      f'columns {of_choices} of items are named like those of choices, which are no features: drop '
      'or rename them, or name the features by features='
    )
  return columns


def _load_npy(path: pathlib.Path, num_items: int) -> Float[np.ndarray, 'I D']:
  values = array_files.read_npy(path)
  if values.ndim != 2 or len(values) != num_items or values.dtype.kind not in 'biuf':
    raise ValueError(
      f'features must be numbers of shape [{num_items}, D], one row an item; {path} holds '
      f'{values.dtype} {list(values.shape)}'
    )
  return values.astype(np.result_type(values.dtype, np.float32))


def digests(columns: Mapping[str, Iterable[Any]]) -> dict[str, str]:
  """Returns the sha256 of each column of items, in the order of its rows."""
  read = {name: [rendering.read_text(x) for x in values] for name, values in columns.items()}
  return {name: files.sha256(json.dumps(values).encode()) for name, values in read.items()}


def _check_made_of(path: pathlib.Path, items: pd.DataFrame) -> None:
  """Checks that features were made of these items in this order, where a file beside them says."""
  beside = path.with_suffix('.json')
  about = files.read_json(beside) if beside.is_file() else {}
  if MADE_OF not in about:  # made elsewhere, or before it was recorded
    return
  fields.check(beside, about, {MADE_OF: dict[str, str]})
  recorded = {name: digest for name, digest in about[MADE_OF].items() if name in items}
  found = digests({name: items[name] for name in recorded})
  other = [name for name in recorded if found[name] != recorded[name]]
  if other:
    raise ValueError(
      f'{path} was made of items whose {" and ".join(other)} are not those of items now, in this '
      f'order, so that its rows may be of other items: remove {path.name} and {path.name}.parts, '
      f'and extract them anew; or remove {beside.name}, if another program wrote {path.name} since'
    )


def locate(items: pd.DataFrame, ids: np.ndarray, name: str) -> Int[np.ndarray, 'M W']:
  """Returns the row in `items` of every id [M, W] that the table `name` holds.

  Raises:
    ValueError: for an id that is not among the items.
  """
  rows = pd.Index(items['item_id']).get_indexer(pd.Index(ids.ravel())).reshape(ids.shape)
  unknown = pd.unique(ids[rows < 0])
  if len(unknown):
    raise ValueError(
      f'{name} names {len(unknown)} unknown items, such as {unknown[:3].tolist()}; '
      'add them to items, or drop those rows'
    )
  return rows


def item_contexts(
  items: pd.DataFrame, preferences: pd.DataFrame, rows: Int[np.ndarray, 'M W']
) -> Int[np.ndarray, 'I']:
  """Returns the number of each item's context: from `items`, else from `preferences`, else 0.

  An item that is in no row of `preferences`, and whose context `items` does not give, gets -1.

  Raises:
    ValueError: if an item is used in a context that is not its own.
  """
  if 'context' not in preferences:
    names = items['context'] if 'context' in items else np.zeros(len(items), int)
    return pd.factorize(names)[0]
  given = pd.Series(np.repeat(preferences['context'].to_numpy(), rows.shape[1]))
  used_items = rows.ravel()
  names = items['context'] if 'context' in items else given.groupby(used_items).first()
  names = names.reindex(range(len(items)))
  own = names.to_numpy()[used_items]
  wrong = np.flatnonzero(own != given.to_numpy())
  if wrong.size:
    row = wrong[0]
    item = items['item_id'].to_numpy()[used_items[row]]
    raise ValueError(
      f'item {item} of context {own[row]} is used in context {given[row]}; an item belongs to one '
      'context: give it another item_id in the other'
    )
  return pd.factorize(names)[0]


def own_order(preferences: pd.DataFrame) -> Int[np.ndarray, 'M'] | None:
  """Returns the rank of each row in the order they were made; None where it is not known.

  Raises:
    ValueError: unless all values of `order` are finite numbers, or all dates as ISO 8601 writes
      them, all with an offset from UTC or all without.
  """
  if 'order' not in preferences:
    return None
  texts = preferences['order'].astype(str)
  with_offset = texts.str.contains(OFFSET)
  if with_offset.nunique() > 1:
    one, other = texts[with_offset].iloc[0], texts[~with_offset].iloc[0]
    raise ValueError(
      f'order mixes dates with an offset from UTC ({one}) and without ({other}), which have no '
      'order: give all of them one'
    )
  numbers = texts.map(_number)
  if numbers.notna().all():
    return pd.factorize(numbers, sort=True)[0]
  dates = pd.to_datetime(texts, format='ISO8601', utc=True, errors='coerce')
  if dates.notna().all():
    return pd.factorize(dates, sort=True)[0]
  raise ValueError(
    'order must be numbers or ISO dates (2026-11-27, 2026-11-27T12:30:00) in all rows, got '
    f'{texts[dates.isna()].drop_duplicates().head(4).tolist()}'
  )


def _number(text: str) -> decimal.Decimal | None:
  """Returns a finite number, exactly: float64 has 53 bits, and nanoseconds since 1970 need 61."""
  try:
    found = decimal.Decimal(text)
  except decimal.InvalidOperation:
    return None
  return found if found.is_finite() else None


def answers(comparisons: pd.DataFrame, strong_from: int) -> Int[np.ndarray, 'M'] | None:
  """Returns what was answered, coded as in `tables.Histories.outcome`; None where all chose.

  Args:
    comparisons: the table.
    strong_from: the least strength of who finds an item much better; 0 reads no strengths. A choice
      of unknown strength is a plain one.

  Raises:
    ValueError: for another outcome, or a strength that is no number.
  """
  found = np.zeros(len(comparisons), int)
  if 'outcome' in comparisons:
    named = comparisons['outcome'].fillna('chosen').astype(str)
    unknown = sorted(set(named) - set(OUTCOMES))
    if unknown:
      raise ValueError(
        f"column 'outcome' of comparisons holds {unknown[:3]}; known: {', '.join(OUTCOMES)}"
      )
    codes = {name: 1 + outcomes.KINDS.index(name) for name in outcomes.NO_CHOICE}
    found = named.map(codes).fillna(0).to_numpy(int)
  if strong_from and 'strength' in comparisons:
    strength = pd.to_numeric(comparisons['strength'], errors='coerce').to_numpy(float)
    if np.any(np.isnan(strength) & comparisons['strength'].notna()):
      raise ValueError("column 'strength' of comparisons must hold numbers, or nothing")
    found = np.where((found == 0) & (strength >= strong_from), len(outcomes.KINDS), found)
  return found if found.any() else None
