"""Results as tables and curves: learners down, numbers of shots across."""

from collections.abc import Iterable, Sequence

import numpy as np

from metapers.bench import results
from metapers.bench.results import ALL_SEEDS, Row
from metapers.io import plots
from metapers.io.report import Table

REFERENCES = (
  'oracle',
  'oracle_features',
  'bayes',
  'bayes_mixture',
  'bayes_scores',
  'bayes_seen',
)
BASELINES = ('pooled',)
# What else is picked is a reward.
UNITS = {'nll': 'nats', 'pick_length': 'words', 'cumulative_regret': 'reward'}


def ordered(learners: Iterable[str]) -> list[str]:
  """Puts references on top and baselines at the bottom; the rest stay as they come."""
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


def cell(row: Row) -> str:
  """Writes value ± half the width of its interval: percent with one digit, else three.

  Differences carry their sign.
  """
  scale, digits = (100, 1) if unit_of(row.metric) in ('%', 'points') else (1, 3)
  half = (row.ci_high - row.ci_low) / 2
  sign = '+' if '_minus_' in row.metric else ''
  value = f'{scale * row.value:{sign}.{digits}f}'
  return value if np.isnan(half) else f'{value} ± {scale * half:.{digits}f}'


def over_seeds(rows: Sequence[Row]) -> list[Row]:
  """Keeps, for each learner, the rows over all seeds, or those of its only seed."""
  averaged = {row.learner for row in rows if row.seed == ALL_SEEDS}
  return [row for row in rows if row.seed == ALL_SEEDS or row.learner not in averaged]


def by_learner(rows: Sequence[Row]) -> dict[str, dict[int, Row]]:
  """Arranges one condition's rows of one metric: learner -> shots -> row.

  Raises:
    ValueError: for two rows of the same learner and shots.
  """
  arranged: dict[str, dict[int, Row]] = {name: {} for name in ordered(row.learner for row in rows)}
  for row in rows:
    if int(row.shots) in arranged[row.learner]:
      raise ValueError(
        f'several rows for {row.metric} of {row.learner!r} at {row.shots} shots; select one '
        'condition first, such as select(rows, population=..., concentration=...)'
      )
    arranged[row.learner][int(row.shots)] = row
  return arranged


def table(rows: Iterable[Row], *, metric: str = 'accuracy') -> Table:
  """Makes the table of one condition: rows learners, columns shots, cells value ± half-width.

  References stand on top and the pooled learner at the bottom.

  Args:
    rows: of one condition; other metrics are left out.
    metric: as in results.csv.

  Raises:
    ValueError: where no row is of that metric, or rows of several conditions are mixed.
  """
  chosen = over_seeds(results.select(rows, metric=metric))
  if not chosen:
    raise ValueError(f'no rows of metric {metric!r} among the results')
  arranged = by_learner(chosen)
  shots = sorted({int(row.shots) for row in chosen})
  body = [
    [name, *(cell(found[count]) if count in found else '' for count in shots)]
    for name, found in arranged.items()
  ]
  caption = f'{metric} ({unit_of(metric)}) ± half a 95 % interval, by shots'
  return Table(caption, ['learner', *map(str, shots)], body)


def as_text(shown: Table) -> str:
  """Writes a table for a terminal: columns aligned."""
  lines = [shown.header, *shown.body]
  widths = [max(map(len, column)) for column in zip(*lines)]
  padded = [
    '  '.join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines
  ]
  return '\n'.join([shown.caption, padded[0], '-' * len(padded[0]), *padded[1:]])


def as_markdown(shown: Table) -> str:
  """Writes a table for a README."""
  rule = ['---', *['---:'] * (len(shown.header) - 1)]
  return '\n'.join('| ' + ' | '.join(line) + ' |' for line in [shown.header, rule, *shown.body])


def curves(rows: Iterable[Row], *, metric: str = 'accuracy') -> list[plots.Curve]:
  """Makes the curves of one condition; single seeds become points beside their average.

  Raises:
    ValueError: where rows of several conditions are mixed.
  """
  chosen = results.select(rows, metric=metric)
  arranged = by_learner(over_seeds(chosen))
  return [curve(name, found, chosen) for name, found in arranged.items()]


def curve(name: str, found: dict[int, Row], rows: Sequence[Row]) -> plots.Curve:
  """Makes the curve of one learner, with the points of its single seeds among `rows`."""
  shots = sorted(found)
  value, low, high = np.array([found[n][-4:-1] for n in shots]).T
  seeds: dict[str, dict[int, float]] = {}
  for row in results.select(rows, learner=name):
    if row.seed != found[int(row.shots)].seed:
      seeds.setdefault(row.seed, {})[int(row.shots)] = row.value
  points = [[seed.get(n, np.nan) for n in shots] for seed in seeds.values()]
  role = 'reference' if name in REFERENCES else 'baseline' if name in BASELINES else 'learner'
  grid = np.array(points).reshape(-1, len(shots))
  return plots.Curve(name, role, np.array(shots), value, low, high, grid)
