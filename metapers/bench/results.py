"""results.csv: one row a number; and the tables and curves read from it."""

import csv
import io
import math
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from metapers.core import files
from metapers.evaluation import bootstrap

ALL_SEEDS = 'all'
KEY_SIZE = 12  # of a row: all but the number, its interval and the number of users


class Row(NamedTuple):
  """One number and what it is of; an empty text means: not applicable.

  The fields are the columns of results.csv. Two rows that agree in all but the last four are the
  same cell, measured twice.
  """

  protocol: str
  population: str
  track: str
  split: str
  pair_rule: str
  concentration: str
  temperature: str
  learner: str
  seed: str
  train_shots: str
  shots: str
  metric: str
  value: float
  ci_low: float
  ci_high: float
  num_users: int


COLUMNS = Row._fields
LABELS = COLUMNS[: COLUMNS.index('shots')]


def text_of(value: object) -> str:
  """Writes a label: numbers in their shortest form, None as the empty text."""
  if value is None:
    return ''
  return f'{value:g}' if isinstance(value, float) else str(value)


def rows(
  estimates: Mapping[str, np.ndarray],
  shots: Sequence[int],
  labels: Mapping[str, object],
  *,
  num_users: int,
) -> list[Row]:
  """Turns a learner's estimates into rows, one for each metric and number of shots.

  Args:
    estimates: metric -> [J, L], row 0 the value and the others its resamples.
    shots: the L numbers of support comparisons.
    labels: column -> what it says; columns left out are not applicable.
    num_users: that were judged.

  Raises:
    ValueError: for a label that is not a column.
  """
  unknown = sorted(set(labels) - set(LABELS))
  if unknown:
    raise ValueError(f'unknown columns {", ".join(unknown)}; known: {", ".join(LABELS)}')
  texts = [text_of(labels.get(name)) for name in LABELS]
  made = []
  for metric, samples in estimates.items():
    for count, numbers in zip(shots, bootstrap.interval(samples).T, strict=True):
      made.append(Row._make([*texts, str(count), metric, *map(float, numbers), num_users]))
  return made


def merge(old: Iterable[Row], new: Iterable[Row]) -> list[Row]:
  """Joins rows; of two of the same cell the later one stays, in the place of the first."""
  return list({row[:KEY_SIZE]: row for row in [*old, *new]}.values())


def read(path: str | os.PathLike) -> list[Row]:
  """Reads a results.csv; no rows where there is no file.

  Raises:
    ValueError: for a file with other columns, or a number that is none.
  """
  path = pathlib.Path(path)
  if not path.exists():
    return []
  header, *lines = [*csv.reader(path.read_text(encoding='utf-8').splitlines())] or [[]]
  if tuple(header) != COLUMNS:
    raise ValueError(f'{path} has columns {header}; expected {list(COLUMNS)}: move it away')
  return [parse(line, path) for line in lines]


def parse(line: Sequence[str], path: pathlib.Path) -> Row:
  """Reads one line of a results.csv."""
  *labels, value, low, high, num_users = line
  try:
    numbers = float(value), float(low or 'nan'), float(high or 'nan'), int(num_users)
    return Row._make([*labels, *numbers])
  except (TypeError, ValueError) as error:
    raise ValueError(f'{path} holds the line {line}, which is not a result: {error}') from error


def number(value: float) -> str:
  """Writes a number with six digits; the empty text for NaN: not applicable."""
  return '' if math.isnan(value) else f'{value:.6g}'


def write(path: str | os.PathLike, made: Iterable[Row]) -> pathlib.Path:
  """Writes a results.csv, whole or not at all."""
  buffer = io.StringIO()
  writer = csv.writer(buffer, lineterminator='\n')
  writer.writerow(COLUMNS)
  for row in made:
    writer.writerow([*row[:KEY_SIZE], *map(number, row[KEY_SIZE:-1]), row.num_users])
  return files.write_atomically(path, buffer.getvalue())


def append(path: str | os.PathLike, new: Iterable[Row]) -> pathlib.Path:
  """Adds rows to a results.csv, replacing those of the same cells."""
  return write(path, merge(read(path), new))


def select(made: Iterable[Row], **columns: object) -> list[Row]:
  """Keeps the rows whose columns say what is asked, such as `metric='accuracy'`."""
  wanted = {name: text_of(value) for name, value in columns.items()}
  return [
    row for row in made if all(row[COLUMNS.index(name)] == want for name, want in wanted.items())
  ]
