"""Results as tables and curves: learners down, numbers of shots across."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from metapers.bench import results
from metapers.bench.results import ALL_SEEDS, BASELINES, REFERENCES
from metapers.io import plots
from metapers.io.report import Table

# What else is picked is a reward.
UNITS = {
  'nll': 'nats', 'pick_length': 'words', 'cumulative_regret': 'reward',
  'brier_calibration': 'squared share', 'accuracy_group_gap': 'points',
}  # fmt: skip


def ordered(learners: Iterable[str]) -> list[str]:
  """Returns names with references first and baselines last; the rest stay as they come."""
  names = list(dict.fromkeys(learners))
  middle = [name for name in names if name not in REFERENCES + BASELINES]
  top = [name for name in REFERENCES if name in names]
  return top + middle + [name for name in BASELINES if name in names]


def unit_of(metric: str) -> str:
  """Returns the unit of a metric: '%', or 'points' of a difference; 'nats', 'reward' or 'words'.

  What stands behind an @, a group of users or a subset of the prompts, changes nothing.
  """
  base, *reference = metric.partition('@')[0].split('_minus_')
  share = 'points' if reference else '%'
  return UNITS.get(base, 'reward' if base.startswith('pick_') else share)


def cell(row: Any) -> str:
  """Returns value ± how far its interval reaches: percent with one digit, else three.

  Differences carry their sign. Where one side of the interval is longer, that one stands.

  Args:
    row: of the results, with attributes metric, value, ci_low and ci_high.
  """
  scale, digits = (100, 1) if unit_of(row.metric) in ('%', 'points') else (1, 3)
  half = max(row.ci_high - row.value, row.value - row.ci_low)
  sign = '+' if '_minus_' in row.metric else ''
  value = f'{scale * row.value:{sign}z.{digits}f}'  # z: never -0.0
  return value if np.isnan(half) else f'{value} ± {scale * half:.{digits}f}'


def over_seeds(frame: pd.DataFrame) -> pd.DataFrame:
  """Returns, for each learner, the rows over all seeds, or those of its only seed."""
  over_all = frame['seed'] == ALL_SEEDS
  return frame[over_all | ~frame['learner'].isin(frame['learner'][over_all])]


def require_one_condition(frame: pd.DataFrame) -> None:
  """Refuses two rows of the same learner, metric and shots.

  Raises:
    ValueError: naming them.
  """
  repeated = frame[frame.duplicated(['learner', 'metric', 'shots'])]
  if len(repeated):
    row = repeated.iloc[0]
    raise ValueError(
      f'several rows for {row.metric} of {row.learner!r} at {row.shots} shots; select one '
      'condition first, such as select(frame, population=..., concentration=...)'
    )


def pivot(
  caption: str, frame: pd.DataFrame, columns: Mapping[tuple[str, int], str], *, note: str = ''
) -> Table:
  """Returns a table with learners down and (metric, shots) across, value ± half an interval.

  Args:
    caption: of the table.
    frame: rows of one condition.
    columns: (metric, shots) -> header.
    note: a line that explains what is shown.

  Raises:
    ValueError: where rows of several conditions are mixed.
  """
  require_one_condition(frame)
  cells = {(row.learner, row.metric, row.shots): cell(row) for row in frame.itertuples()}
  body = [
    [name, *(cells.get((name, metric, str(shots)), '') for metric, shots in columns)]
    for name in ordered(frame['learner'])
  ]
  return Table(caption, ['learner', *columns.values()], body, note)


def table(frame: pd.DataFrame, *, metric: str = 'accuracy', note: str = '') -> Table:
  """Returns the table of one condition: learners down, shots across, value ± half-width.

  References stand on top and the pooled learner at the bottom.

  Args:
    frame: rows of one condition; other metrics are left out.
    metric: as in results.csv.
    note: a line that explains the metric.

  Raises:
    ValueError: where no row is of that metric, or rows of several conditions are mixed.
  """
  chosen = over_seeds(results.select(frame, metric=metric))
  if not len(chosen):
    raise ValueError(f'no rows of metric {metric!r} among the results')
  shots = sorted(map(int, chosen['shots'].unique()))
  caption = f'{metric} ({unit_of(metric)}) ± half a 95 % interval, by shots'
  return pivot(caption, chosen, {(metric, count): str(count) for count in shots}, note=note)


def as_text(shown: Table) -> str:
  """Returns a table for a terminal: columns aligned."""
  lines = [shown.header, *shown.body]
  widths = [max(map(len, column)) for column in zip(*lines)]
  padded = [
    '  '.join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines
  ]
  return '\n'.join([shown.caption, padded[0], '-' * len(padded[0]), *padded[1:]])


def curves(frame: pd.DataFrame, *, metric: str = 'accuracy') -> list[plots.Curve]:
  """Returns the curves of one condition; single seeds are points beside their average.

  Raises:
    ValueError: where rows of several conditions are mixed.
  """
  chosen = results.select(frame, metric=metric)
  averaged = over_seeds(chosen)
  require_one_condition(averaged)
  return [
    curve(name, averaged[averaged['learner'] == name], chosen[chosen['learner'] == name])
    for name in ordered(averaged['learner'])
  ]


def curve(name: str, averaged: pd.DataFrame, seeds: pd.DataFrame) -> plots.Curve:
  """Returns the curve of one learner, with the points of its single seeds.

  Args:
    name: of the learner.
    averaged: its rows, over all seeds or of its only one.
    seeds: its rows of every seed.
  """
  by_shots = averaged.assign(shots=averaged['shots'].astype(int)).set_index('shots').sort_index()
  value, low, high = (by_shots[column].to_numpy() for column in results.NUMBERS)
  single = seeds[~seeds['seed'].isin(averaged['seed'])]
  points = single.assign(shots=single['shots'].astype(int)).pivot(
    index='seed', columns='shots', values='value'
  )
  points = points.reindex(columns=by_shots.index).to_numpy(np.float64)
  return plots.Curve(name, role_of(name), by_shots.index.to_numpy(), value, low, high, points)


def role_of(name: str) -> str:
  """Returns how a row is drawn: 'reference', 'baseline' or 'learner'."""
  if name in REFERENCES:
    return 'reference'
  return 'baseline' if name in BASELINES else 'learner'


def measured_among(shown: Sequence[str], frame: pd.DataFrame) -> list[str]:
  """Returns those of some metrics that a frame has, in the order asked."""
  measured = set(frame['metric'])
  return [metric for metric in shown if metric in measured]
