"""Times as a table, a file and a figure."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from metapers.bench.speed import operations, workload
from metapers.bench.speed.implementation import OURS
from metapers.bench.speed.workload import Case
from metapers.core import files
from metapers.io import panels
from metapers.io.plots import Figure
from metapers.io.report import Table

CASE = ('row', 'features', 'hidden', 'users', 'clock')
COLUMNS = (
  *CASE, 'implementation', 'users_per_second', 'milliseconds_min', 'milliseconds_median',
  'compile_seconds', 'fraction_of_peak', 'peak_mib', 'loss', 'gradient_norm',
)  # fmt: skip
HEADER = (
  'row/features/hidden', 'MFLOP a user', 'implementation', 'users/s', 'ours by theirs',
  'of the peak', 'ms, least', 'ms, median', 'compiling, s', 'memory, MiB',
)  # fmt: skip


def append(path: str | os.PathLike, timed: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
  """Returns the rows of a file with those of one case at its end, which replace its earlier ones.

  Args:
    path: of the csv file, which is written anew.
    timed: rows of one case.
  """
  new = pd.DataFrame(timed, columns=COLUMNS)
  kept = []
  if pathlib.Path(path).exists():
    old = pd.DataFrame(
      {'clock': 'unknown'} | dict(pd.read_csv(path, dtype={'hidden': str}).items()), columns=COLUMNS
    )
    kept = [old[~same_case(old, new.iloc[0])]]
  found = pd.concat([*kept, new], ignore_index=True)
  files.write_atomically(path, found.to_csv(index=False, float_format='%.8g', lineterminator='\n'))
  return found


def same_case(found: pd.DataFrame, row: pd.Series) -> pd.Series:
  """Returns which rows are of the case of one."""
  keys = list(CASE)
  return (found[keys] == row[keys]).all(axis=1)


def table(found: pd.DataFrame) -> Table:
  """Returns what was timed, the library's own beside the others."""
  body, names = [], labels(found)
  for number, row in enumerate(found.itertuples()):
    own = found[same_case(found, found.iloc[number])]
    ours = own.loc[own['implementation'] == OURS, 'users_per_second'].item()
    case = case_of(row)
    work = f'{operations.of_user(case) / 1e6:.3g}'
    body.append([names[number], work, row.implementation, *cells(row, ours)])
  return Table('users whose loss and gradient are computed in a second', HEADER, body)


def labels(found: pd.DataFrame) -> list[str]:
  """Returns what the case of each row is called, with its users and clock where rows differ."""
  differ = {name for name in ('users', 'clock') if found[name].nunique() > 1}

  def label(row):
    told = {'users': f'{row.users:,} users', 'clock': f'{row.clock} clock'}
    return ', '.join(
      [workload.name_of(case_of(row)), *(told[name] for name in told if name in differ)]
    )

  return [label(row) for row in found.itertuples()]


def case_of(row: Any) -> Case:
  """Returns the case that a row is of."""
  widths = () if row.hidden == workload.sizes(()) else tuple(map(int, row.hidden.split('x')))
  return Case(row.row, row.features, widths, row.users)


def cells(row: Any, ours: float) -> list[str]:
  """Returns the numbers of one implementation, as text."""
  ratio = '' if row.implementation == OURS else f'{ours / row.users_per_second:.2f}'
  return [
    f'{row.users_per_second:,.0f}',
    ratio,
    f'{row.fraction_of_peak:.1%}',
    f'{row.milliseconds_min:.1f}',
    f'{row.milliseconds_median:.1f}',
    f'{row.compile_seconds:.1f}',
    f'{row.peak_mib:.0f}',
  ]


def figure(found: pd.DataFrame, title: str) -> Figure:
  """Returns users a second by case, a mark for each implementation."""
  series = {}
  for label, row in zip(labels(found), found.itertuples(), strict=True):
    case = label.replace('/', ' ')
    series.setdefault(row.implementation, {})[case] = (row.users_per_second, 0.0)
  panel = panels.Panel(panels.rows(series, 'users a second', is_log=True), height=7)
  return panels.figure([panel], title=title)
