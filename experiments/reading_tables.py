"""What the parts of a reading share: what is read, and rows laid out as tables."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from experiments.settings import Setting
from metapers.bench import results, tables
from metapers.bench.results import Row
from metapers.evaluation import estimates
from metapers.evaluation.estimates import Estimates
from metapers.evaluation.predictions import Predictions
from metapers.io.report import Table

FLOOR = 'pooled'
CEILINGS = ('bayes', 'bayes_scores')

BySeed = Mapping[str, Mapping[str, Predictions]]


class Subject(NamedTuple):
  """What is read.

  setting: the users. predictions: learner -> seed -> its predictions; the seed of a reference is
  ''. judged: learner -> its estimates, averaged over seeds. at: index into the numbers of shots, of
  the one at which tables stand that do not run over shots.
  """

  setting: Setting
  predictions: BySeed
  judged: Mapping[str, Estimates]
  at: int

  @property
  def shots(self) -> int:
    """The number of shots at `at`."""
    return self.setting.shots[self.at]

  @property
  def ceiling(self) -> str:
    """The reference that rooms are measured to; '' without one."""
    return next((name for name in CEILINGS if name in self.judged), '')


class Part(NamedTuple):
  """One part of a reading: sentences, tables, and rows for results.csv."""

  text: tuple[str, ...] = ()
  tables: tuple[Table, ...] = ()
  rows: tuple[Row, ...] = ()


def averaged(
  predictions: BySeed, measure: Callable[[str, str, Predictions], Estimates]
) -> dict[str, Estimates]:
  """Applies `measure(learner, seed, predictions)` and averages over each learner's seeds."""
  return {
    name: estimates.average([measure(name, seed, made) for seed, made in by_seed.items()])
    for name, by_seed in predictions.items()
  }


def rows(
  subject: Subject,
  learner: str,
  found: Estimates,
  shots: Iterable[int],
  *,
  num_users: int | None = None,
) -> list[Row]:
  """Labels the estimates of one learner, or of the users themselves where `learner` is ''.

  Numbers that do not apply (NaN) give no row.
  """
  labels = {**subject.setting.labels, 'learner': learner, 'seed': seed_of(subject, learner)}
  if not learner or learner in tables.REFERENCES:
    labels['train_shots'] = ''
  size = subject.setting.evaluated.num_users if num_users is None else num_users
  made: list[Row] = []
  for column, count in enumerate(shots):
    there = {
      metric: samples[:, column : column + 1]
      for metric, samples in found.items()
      if np.isfinite(samples[0, column])
    }
    made += results.rows(there, [count], labels, num_users=size)
  return made


def seed_of(subject: Subject, learner: str) -> str:
  """Returns what the column `seed` says of a learner: its only one, or all."""
  seeds = list(subject.predictions.get(learner, {'': None}))
  return seeds[0] if len(seeds) == 1 else results.ALL_SEEDS


def minus(found: Mapping[str, Estimates], reference: str) -> dict[str, Estimates]:
  """Returns what each other learner has more than a reference, paired."""
  if reference not in found:
    return {}
  return {
    name: estimates.differences(own, found[reference], reference)
    for name, own in found.items()
    if name != reference
  }


def keep(found: Estimates, metrics: Iterable[str], *, behind: str = '') -> Estimates:
  """Keeps some metrics, with something written behind their names."""
  return {f'{metric}{behind}': found[metric] for metric in metrics if metric in found}


def at_shots(found: Estimates, subject: Subject) -> Estimates:
  """Keeps the one number of shots: [J, 1]."""
  return {metric: samples[:, [subject.at]] for metric, samples in found.items()}


def pivot(caption: str, made: Iterable[Row], columns: Mapping[tuple[str, int], str]) -> Table:
  """Lays rows out with learners down and (metric, shots) across, value ± half an interval.

  Args:
    caption: of the table.
    made: rows, one for each learner, metric and number of shots.
    columns: (metric, shots) -> header.
  """
  found = {(row.learner, row.metric, int(row.shots)): row for row in made}
  body = []
  for name in tables.ordered(learner for learner, *_ in found):
    cells = [found.get((name, *column)) for column in columns]
    body.append([name, *('' if row is None else tables.cell(row) for row in cells)])
  return Table(caption, ['learner', *columns.values()], body)
