"""What a table says of known users who lie: what each share of them costs, by learner."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from metapers.analysis import poisoning
from metapers.bench import tables
from metapers.bench.plan import Condition
from metapers.bench.settings import Setting
from metapers.evaluation import intervals, ranges
from metapers.evaluation.estimates import Estimates
from metapers.io.report import Section, Table

SHARE = 'adversarial_share'
COST = 0.01  # of accuracy
NOTE = (
  'accuracy (points) minus that of the same learner without liars, for the same new users, whose '
  'own comparisons are honest; last: the least share of liars that costs a point, linear between '
  'those that were measured, and where the interval of the cost reaches a point'
)


class Poisoned(NamedTuple):
  """One condition of a table: its share of liars, whom learners are evaluated on, and how well."""

  share: float
  setting: Setting
  overall: Mapping[str, Estimates]


def sections(
  conditions: Sequence[Condition],
  settings: Sequence[Setting],
  overall: Sequence[Mapping[str, Estimates]],
  num_seeds: int,
) -> list[Section]:
  """Returns a section with a table for each kind of liars that stand beside none; else none.

  Args:
    conditions: of a table.
    settings: of the conditions.
    overall: row -> its estimates over seeds, of each condition.
    num_seeds: the fewest of a row with several, see `intervals.interval`.
  """
  kinds: dict[tuple, list[Poisoned]] = {}
  for condition, setting, own in zip(conditions, settings, overall, strict=True):
    rest = {name: value for name, value in condition.changes.items() if name != SHARE}
    share = condition.changes.get(SHARE, 0.0)
    kinds.setdefault(tuple(sorted(rest.items())), []).append(Poisoned(share, setting, own))
  made = [
    table_of(dict(kind), sorted(group, key=lambda one: one.share), num_seeds)
    for kind, group in kinds.items()
    if len({one.share for one in group}) > 1 and not min(one.share for one in group)
  ]
  return [Section('Known users who lie', tables=made)] if made else []


def table_of(kind: Mapping[str, object], group: Sequence[Poisoned], num_seeds: int) -> Table:
  """Returns learners × shares of liars, after the most comparisons that were evaluated.

  Args:
    kind: what else the conditions change.
    group: conditions by rising share of liars, the first of which is what the others are held to.
    num_seeds: see `sections`.
  """
  first, shares = group[0], np.array([one.share for one in group])
  words = ', '.join(f'{name} {value}' for name, value in kind.items()) or 'liars'
  learners = [name for name in first.overall if tables.role_of(name) != 'reference']
  body = [
    row_of(name, shares, [losses_of(name, first, one, num_seeds) for one in group])
    for name in tables.ordered(learners)
  ]
  header = ['learner', *(f'{share:.0%}' for share in shares[1:]), 'one point']
  shots = max(first.setting.shots)
  return Table(f'{words}: what a share of them costs after {shots} shots', header, body, NOTE)


def losses_of(name: str, honest: Poisoned, one: Poisoned, num_seeds: int) -> np.ndarray:
  """Returns what liars cost a learner, and the ends of its interval: [3], in accuracy."""
  lost = honest.overall[name]['accuracy'] - one.overall[name]['accuracy']
  sizes = one.setting.evaluated.sizes | {'num_seeds': num_seeds}
  return ranges.within(f'accuracy_minus_{name}', intervals.interval(lost[:, -1:], **sizes))[:, 0]


def row_of(name: str, shares: np.ndarray, losses: Sequence[np.ndarray]) -> list[str]:
  """Returns one learner's cells: its differences, and the share of liars that costs a point."""
  value, low, high = np.transpose(losses)
  at, soonest, latest = (
    poisoning.share_that_costs(shares, curve, COST) for curve in (value, high, low)
  )
  cells = [
    f'{-100 * lost:+z.1f} ± {100 * max(top - lost, lost - bottom):.1f}'
    for lost, bottom, top in itertools.islice(zip(value, low, high), 1, None)
  ]
  most = float(shares[-1])
  return [
    name,
    *cells,
    f'{in_words(at, most)} ({in_words(soonest, most)} to {in_words(latest, most)})',
  ]


def in_words(share: float, most: float) -> str:
  """Returns a share in percent, or that it is more than the most that was measured."""
  return f'{share:.1%}' if np.isfinite(share) else f'> {most:.0%}'
