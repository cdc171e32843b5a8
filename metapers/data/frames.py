"""Rows of files as data frames: nothing is guessed, so that an id is the text that stands there."""

import csv
import datetime
import os
import pathlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from metapers.core import files
from metapers.core.types import Float

TRUTH = {'true': 1.0, 'false': 0.0}


def read_frame(path: str | os.PathLike) -> pd.DataFrame:
  """Returns the rows of a parquet, jsonl or csv file, numbered from 0 in the file's order.

  Cells of a csv file are texts, None where they are empty. Values of the others are as the file
  types them; integers beside gaps stay integers. An index that pandas stored becomes a column if it
  has a name, and is dropped otherwise.

  Raises:
    ValueError: for a file that is missing, of another kind or unreadable, a column that stands
      twice, or a text that is no unicode.
  """
  path = pathlib.Path(path)
  if path.suffix not in READERS or not path.is_file():
    raise ValueError(f'{path} is no .parquet or .jsonl file, nor .csv; give one with a row each')
  try:
    return READERS[path.suffix](path)
  except (ValueError, OSError, pa.ArrowException) as error:
    raise ValueError(f'{path} cannot be read: {error}') from error


def _read_parquet(path: pathlib.Path) -> pd.DataFrame:
  # Not pandas' reader: it adds columns for folders named `a=1`, and turns integers with gaps into
  # floats, which have no more than 53 bits.
  with pq.ParquetFile(path) as file:
    table = file.read()
  _check_names(table.column_names)
  frame = table.to_pandas(integer_object_nulls=True, timestamp_as_object=True)
  return frame.reset_index(drop=all(name is None for name in frame.index.names))


def _read_jsonl(path: pathlib.Path) -> pd.DataFrame:
  with path.open(encoding='utf-8') as file:
    lines = [(number, line) for number, line in enumerate(file, 1) if line.strip()]
  rows = [files.parse_json(line, f'line {number}') for number, line in lines]
  for (number, _), row in zip(lines, rows, strict=True):
    check_unicode(row, f'line {number}')
  return pd.DataFrame(rows, dtype=object)  # or integers beside gaps become floats


def _read_csv(path: pathlib.Path) -> pd.DataFrame:
  with path.open(encoding='utf-8-sig', newline='') as file:
    _check_names(next(csv.reader(file), []))
  with warnings.catch_warnings():
    warnings.simplefilter('error', pd.errors.ParserWarning)  # of rows longer than the header
    try:
      frame = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[''], index_col=False)
    except pd.errors.ParserWarning as error:
      raise ValueError(f'a row has more cells than the header has names ({error})') from error
  return frame.astype(object).where(frame.notna(), None)


READERS: dict[str, Callable[[pathlib.Path], pd.DataFrame]] = {
  '.parquet': _read_parquet,
  '.jsonl': _read_jsonl,
  '.csv': _read_csv,
}


def _check_names(names: Sequence[str]) -> None:
  twice = sorted({name for name in names if names.count(name) > 1})
  if twice:
    raise ValueError(f'columns stand twice: {", ".join(map(repr, twice))}; rename or drop one')


def check_unicode(value: Any, where: str) -> None:
  """Raises for half of a surrogate pair, which JSON can write and UTF-8 cannot."""
  if isinstance(value, str):
    try:
      value.encode()
    except UnicodeEncodeError as error:
      raise ValueError(
        f'{where} holds a text that is no unicode (half of a surrogate pair at character '
        f'{error.start} of {value!r:.60}); remove it'
      ) from error
  elif isinstance(value, dict):
    for name, each in value.items():
      check_unicode(name, where)
      check_unicode(each, where)
  elif isinstance(value, list):
    for each in value:
      check_unicode(each, where)


def id_of(value: Any) -> str | None:
  """Returns an id as text, None where there is none.

  A whole number that pandas made a float because of gaps is written as the integer that it was.

  Raises:
    ValueError: for a value that is no id: a list, an object, bytes.
  """
  if pd.api.types.is_scalar(value) and pd.isna(value):
    return None
  if isinstance(value, str):
    return str(value)
  if isinstance(value, float | np.floating):
    return str(int(value)) if float(value).is_integer() else str(value)
  if isinstance(value, datetime.date | pd.Timestamp):
    return value.isoformat()
  if isinstance(value, bool | int | np.integer | np.bool_):
    return str(value)
  raise ValueError(f'an id must be text or a number, got {type(value).__name__} {value!r:.60}')


def ids(frame: pd.DataFrame, column: str) -> np.ndarray:
  """Returns a column of ids as texts, an object array, None where one is missing.

  Raises:
    ValueError: for values that are no ids, naming the column and the row.
  """
  found = np.empty(len(frame), object)
  for row, value in enumerate(frame[column]):
    try:
      found[row] = id_of(value)
    except ValueError as error:
      raise ValueError(f'row {row} of {column!r}: {error}') from error
  return found


def numbers(frame: pd.DataFrame, columns: Sequence[str], name: str) -> Float[np.ndarray, 'M W']:
  """Returns columns as numbers; true and false, however they are written, are 1 and 0.

  Args:
    frame: M rows.
    columns: W names.
    name: of the table, for messages.

  Raises:
    ValueError: naming the columns that hold something else.
  """
  made, other = [], []
  for column in columns:
    values = frame[column]
    if not pd.api.types.is_numeric_dtype(values):
      lower = values.map(lambda value: str(value).lower())
      values = lower.map(TRUTH) if lower.isin(TRUTH).all() else values
    try:
      made.append(np.asarray(pd.to_numeric(values), np.float64))
    except (TypeError, ValueError):
      other.append(column)
  if other:
    raise ValueError(
      f'columns {other} of {name} must be numbers; drop, convert or do not name them'
    )
  return np.stack(made, 1)
