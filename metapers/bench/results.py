"""Results as a data frame with one row for each number; results.csv holds the same columns."""

import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from metapers.core import files
from metapers.evaluation import bootstrap

ALL_SEEDS = 'all'
LABELS = (
  'protocol', 'population', 'track', 'split', 'pair_rule', 'concentration', 'temperature',
  'learner', 'seed', 'train_shots',
)  # fmt: skip
CELL = (*LABELS, 'shots', 'metric')  # two rows that agree in these are one cell, measured twice
NUMBERS = ('value', 'ci_low', 'ci_high')
COLUMNS = (*CELL, *NUMBERS, 'num_users')


def text_of(value: object) -> str:
  """Returns a label as text: numbers in their shortest form, None as the empty text."""
  if value is None:
    return ''
  return f'{value:g}' if isinstance(value, float) else str(value)


def rows(
  estimates: Mapping[str, np.ndarray],
  shots: Sequence[int],
  labels: Mapping[str, object],
  *,
  num_users: int,
) -> pd.DataFrame:
  """Returns a learner's estimates as rows, one for each metric and number of shots.

  Args:
    estimates: metric -> [J, L], row 0 the value and the others its resamples.
    shots: the L numbers of support comparisons.
    labels: column -> what it says; columns left out are not applicable: the empty text.
    num_users: that were evaluated.

  Raises:
    ValueError: for a label that is not a column.
  """
  unknown = sorted(set(labels) - set(LABELS))
  if unknown:
    raise ValueError(f'unknown columns {", ".join(unknown)}; known: {", ".join(LABELS)}')
  texts = {name: text_of(labels.get(name)) for name in LABELS}
  parts = [
    pd.DataFrame(
      {
        **texts,
        'shots': [str(count) for count in shots],
        'metric': metric,
        **dict(zip(NUMBERS, bootstrap.interval(samples), strict=True)),
        'num_users': num_users,
      }
    )
    for metric, samples in estimates.items()
  ]
  return join(parts)


def join(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
  """Returns rows of several frames in one, with all columns where there are none."""
  made = [part for part in parts if len(part)]
  return pd.concat(made, ignore_index=True) if made else pd.DataFrame(columns=list(COLUMNS))


def merge(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
  """Returns the rows of both; of two of one cell the new one."""
  return join([old, new]).drop_duplicates(list(CELL), keep='last', ignore_index=True)


def select(frame: pd.DataFrame, **columns: object) -> pd.DataFrame:
  """Returns the rows whose columns say what is asked, such as `metric='accuracy'`."""
  wanted = pd.Series(True, index=frame.index)
  for name, value in columns.items():
    wanted &= frame[name] == text_of(value)
  return frame[wanted]


def read_results(path: str | os.PathLike) -> pd.DataFrame:
  """Returns the rows of a results.csv; none where there is no file.

  Raises:
    ValueError: for a file with other columns, or text where a number must stand.
  """
  path = pathlib.Path(path)
  if not path.exists():
    return join([])
  try:
    frame = pd.read_csv(
      path,
      dtype=dict.fromkeys(CELL, str),
      keep_default_na=False,
      na_values={name: [''] for name in NUMBERS},
    )
  except (ValueError, pd.errors.ParserError) as error:
    raise ValueError(f'{path} is no table of results: {error}') from error
  if tuple(frame.columns) != COLUMNS:
    raise ValueError(
      f'{path} has columns {list(frame.columns)}; expected {list(COLUMNS)}: move it away'
    )
  for name in (*NUMBERS, 'num_users'):
    if not pd.api.types.is_numeric_dtype(frame[name]):
      raise ValueError(f'{path}: column {name} holds text where numbers are expected')
  return frame


def write_results(path: str | os.PathLike, frame: pd.DataFrame) -> pathlib.Path:
  """Writes a results.csv with six digits, whole or not at all, and returns its path."""
  text = frame.to_csv(columns=list(COLUMNS), index=False, float_format='%.6g', lineterminator='\n')
  return files.write_atomically(path, text)


def append_results(path: str | os.PathLike, new: pd.DataFrame) -> pathlib.Path:
  """Adds rows to a results.csv, replacing those of the same cells, and returns its path."""
  return write_results(path, merge(read_results(path), new))
