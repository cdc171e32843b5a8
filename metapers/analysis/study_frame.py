"""The table that all studies write: one number a row, with its sampling error."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

COLUMNS = (
  'study', 'population', 'concentration', 'convention', 'group', 'statistic', 'value',
  'standard_error', 'published',
)  # fmt: skip
NUMBERS = ('concentration', 'value', 'standard_error', 'published')
NONE = float('nan')


class Whose(NamedTuple):
  """What a block of numbers is of.

  study: name of the study. population: whose preferences. concentration: α, NaN without any.
  convention: 'z' or 'raw' scores, '' where no scores are weighted.
  """

  study: str
  population: str = ''
  concentration: float = NONE
  convention: str = ''


class Cell(NamedTuple):
  """One number. group: what part of the population or data; published: NaN where nothing is."""

  group: str
  statistic: str
  value: float
  standard_error: float = NONE
  published: float = NONE


def rows(whose: Whose, cells: Iterable[Cell]) -> pd.DataFrame:
  """Returns one block of numbers as rows with COLUMNS."""
  return typed(pd.DataFrame([(*whose, *cell) for cell in cells], columns=list(COLUMNS)))


def joined(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
  """Returns blocks under each other, with COLUMNS; an empty table of none."""
  there = [frame for frame in frames if len(frame)]
  if not there:
    return typed(pd.DataFrame(columns=list(COLUMNS)))
  return pd.concat(there, ignore_index=True)


def typed(frame: pd.DataFrame) -> pd.DataFrame:
  """Returns the table with numbers as float64 and the rest as texts."""
  kinds = {name: np.float64 if name in NUMBERS else object for name in COLUMNS}
  return frame.astype(kinds)


def pick(frame: pd.DataFrame, **wanted: object) -> pd.DataFrame:
  """Returns the rows whose columns hold these values; NaN equals NaN."""
  for name, value in wanted.items():
    is_none = isinstance(value, float) and np.isnan(value)
    frame = frame[frame[name].isna() if is_none else frame[name] == value]
  return frame


def value_of(frame: pd.DataFrame, **wanted: object) -> float:
  """Returns the value of the only row whose columns hold these values.

  Raises:
    ValueError: for none or several.
  """
  found = pick(frame, **wanted)
  if len(found) != 1:
    raise ValueError(f'{len(found)} rows for {wanted}; name one')
  return float(found['value'].iloc[0])
