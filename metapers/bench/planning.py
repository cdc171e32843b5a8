"""What to collect for a budget of labels, read from a table of protocol `budget`."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from metapers.analysis import budget
from metapers.analysis.budget import Design
from metapers.bench import results, tables
from metapers.core.types import Float
from metapers.io import panels
from metapers.io.plots import Figure
from metapers.io.report import Table

USERS, LABELS = 'num_users', 'num_labels'
# Columns of the results in which budgets of one surface are alike.
ALIKE = ('population', 'track', 'normalization', 'pair_rule', 'concentration', 'temperature')


class Measured(NamedTuple):
  """A learner's accuracy on new users by how many users, and labels of each, it was trained on.

  half_width: of the accuracy's interval.
  """

  num_users: Float[np.ndarray, 'L']
  num_labels: Float[np.ndarray, 'L']
  accuracy: Float[np.ndarray, 'L']
  half_width: Float[np.ndarray, 'L']


class Planned(NamedTuple):
  """What a learner is expected to come to.

  design: the best of the budget. error: median error on budgets that the surface was not fitted to,
  in accuracy.
  """

  learner: str
  design: Design
  error: float


def measured(frame: pd.DataFrame, learner: str, shots: int) -> Measured:
  """Returns what a learner came to under each budget of a table.

  Args:
    frame: results of a table of protocol `budget`.
    learner: row.
    shots: comparisons given of a new user.

  Raises:
    ValueError: where the results hold no budgets of that learner at that number of shots, or those
      of several kinds of users.
  """
  own = results.select(frame, metric='accuracy', learner=learner, shots=shots, split='test')
  check_alike(own)
  shown = tables.over_seeds(own)
  rows = [
    (
      float(changes[USERS]),
      float(changes[LABELS]),
      row.value,
      row.half_width,
    )
    for row in shown.assign(half_width=(shown['ci_high'] - shown['ci_low']) / 2).itertuples()
    for changes in [results.changes_of(str(row.protocol))]
    if USERS in changes and LABELS in changes
  ]
  if not rows:
    known = ', '.join(learners_of(frame))
    counts = ', '.join(filter(None, dict.fromkeys(frame['shots'])))
    raise ValueError(
      f'no budgets of {learner!r} after {shots} comparisons among these results: they must be of '
      f'experiments/configs/budget.py; learners there: {known}; comparisons: {counts}'
    )
  return Measured(*map(np.array, zip(*rows, strict=True)))


def check_alike(own: pd.DataFrame) -> None:
  """Refuses budgets that differ in more than users and labels: no surface goes through them all.

  Raises:
    ValueError: naming in what.
  """
  changes = pd.DataFrame(map(results.changes_of, own['protocol'])).fillna('')
  others = pd.concat([own[list(ALIKE)].reset_index(drop=True), changes], axis=1)
  found = others.drop(columns=[USERS, LABELS], errors='ignore')
  if differ := [str(name) for name in found if found[name].nunique() > 1]:
    raise ValueError(
      f'these budgets differ in {", ".join(differ)}, too; give the results of one value of each'
    )


def learners_of(frame: pd.DataFrame) -> list[str]:
  """Returns the learners whose accuracy is among results, which hold facts of users, too."""
  names = results.select(frame, metric='accuracy', split='test')['learner']
  return [name for name in dict.fromkeys(names) if name and tables.role_of(name) == 'learner']


def plan(frame: pd.DataFrame, learner: str, shots: int, labels: int) -> Planned:
  """Returns the numbers of users and of labels each that a learner is expected to do best with.

  Args:
    frame: results of a table of protocol `budget`.
    learner: row.
    shots: comparisons given of a new user.
    labels: the budget: users times labels of each, at most.

  Raises:
    ValueError: for results without budgets, or a budget below what was measured.
  """
  found = measured(frame, learner, shots)
  limits = [(int(column.min()), int(column.max())) for column in found[:2]]
  design = budget.best(budget.fit(*found[:3]), labels, users=limits[0], labels=limits[1])
  return Planned(learner, design, float(np.median(budget.errors_unseen(*found[:3]))))


def figure(frame: pd.DataFrame, learners: Sequence[str], shots: int) -> Figure:
  """Returns accuracy by users, a line for each learner and a panel for each number of labels.

  Args:
    frame: results of a table of protocol `budget`.
    learners: rows.
    shots: comparisons given of a new user.

  Raises:
    ValueError: where the results hold no budgets of a learner at that number of shots.
  """
  found = {name: measured(frame, name, shots) for name in learners}

  def line(own: Measured, labels: float) -> panels.Line:
    chosen = own.num_labels == labels
    order = np.argsort(own.num_users[chosen])
    at, value, half = (
      column[chosen][order] for column in (own.num_users, own.accuracy, own.half_width)
    )
    return panels.Line(at, 100 * value, 100 * half)

  sizes = sorted({float(size) for own in found.values() for size in own.num_labels})
  users = sorted({float(size) for own in found.values() for size in own.num_users})
  parts = [
    panels.Panel(
      panels.lines(
        {name: line(own, size) for name, own in found.items()},
        'known users',
        'accuracy (%)',
        is_log=True,
        ticks=users,
      ),
      title=f'{size:g} labels each',
    )
    for size in sizes
  ]
  made = panels.figure(parts, title=f'Accuracy after {shots} comparisons of a new user')
  heights = [axis.get_ylim() for axis in made.axes]
  for axis in made.axes:  # one scale, so that panels can be compared
    axis.set_ylim(min(low for low, _ in heights), max(high for _, high in heights))
  return made


def table_of(planned: Sequence[Planned], labels: int, shots: int) -> Table:
  """Returns plans as a table, the learner that is expected to do best on top."""
  body = [
    [
      one.learner,
      f'{one.design.num_users:,}',
      f'{one.design.num_labels:,}',
      f'{100 * one.design.accuracy:.1f}',
      f'{100 * one.error:.1f}',
    ]
    for one in sorted(planned, key=lambda one: -one.design.accuracy)
  ]
  header = ['learner', 'users', 'labels each', 'expected accuracy (%)', 'median error (points)']
  note = (
    'expected: of a surface through the measured budgets, within the numbers that were measured; '
    'error: of budgets that the surface was not fitted to'
  )
  return Table(f'{labels:,} labels, accuracy after {shots} comparisons', header, body, note)
