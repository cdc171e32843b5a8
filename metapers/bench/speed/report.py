"""Times as a table, a file and a figure."""

import pandas as pd

from metapers.bench.speed import operations, workload
from metapers.bench.speed.implementation import OURS
from metapers.bench.speed.workload import Case
from metapers.io import panels
from metapers.io.plots import Figure
from metapers.io.report import Table

HEADER = (
  'row/features/hidden', 'MFLOP a user', 'implementation', 'users/s', 'ours by theirs',
  'of the peak', 'ms, least', 'ms, median', 'compiling, s', 'memory, MiB',
)  # fmt: skip


def table(cases: list[Case], found: pd.DataFrame) -> Table:
  """Returns what was timed, the library's own beside the others."""
  body = []
  for case in cases:
    keys = (case.row, case.features, workload.sizes(case.hidden))
    own = found[(found[['row', 'features', 'hidden']] == keys).all(axis=1)]
    ours = own.loc[own['implementation'] == OURS, 'users_per_second'].item()
    work = f'{operations.of_user(case) / 1e6:.3g}'
    body += [
      [workload.name_of(case), work, row.implementation, *cells(row, ours)]
      for row in own.itertuples()
    ]
  return Table('users whose loss and gradient are computed in a second', HEADER, body)


def cells(row, ours: float) -> list[str]:
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
  for row in found.itertuples():
    case = f'{row.row} {row.features} {row.hidden}'
    series.setdefault(row.implementation, {})[case] = (row.users_per_second, 0.0)
  panel = panels.Panel(panels.rows(series, 'users a second', is_log=True), height=7)
  return panels.figure([panel], title=title)
