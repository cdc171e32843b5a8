"""What a table came to, in sentences: which learner is best, by how much, and for whom not."""

import collections
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from metapers.bench import for_whom, results, tables
from metapers.bench.evidence import CEILINGS, FLOOR
from metapers.bench.settings import Setting
from metapers.core.population import SEEN
from metapers.evaluation import metrics
from metapers.io.report import Section

MOST_CONDITIONS = 6  # that have a sentence on top of a page; of more, in a section of their own
PLAIN_FLOOR = f'{FLOOR}, which does not personalise'
UNKNOWN_GAIN = f'What personalising gains is not known: no learner is named {FLOOR}.'


class Verdict(NamedTuple):
  """What results say of a setting after the most comparisons that were evaluated.

  own: rows of the setting, over seeds. best: row of the learner with the highest value.
  rivals: learners of whom it is not told apart: the interval of their paired difference, of all
  pairs at once, holds 0.
  num_learners: it among them. gain: row of what it has over `pooled`, None without that.
  since: the number of comparisons from which on that is above 0 with its interval, or None.
  gainers: rows of all learners of whom it is at the last.
  """

  setting: Setting
  own: pd.DataFrame
  best: Any
  rivals: tuple[str, ...]
  num_learners: int
  gain: Any
  since: int | None
  gainers: tuple[Any, ...]

  @property
  def is_alone(self) -> bool:
    """Whether no other learner is there."""
    return self.num_learners == 1


def rows_at(own: pd.DataFrame, metric: str, shots: object, **columns: object) -> list[Any]:
  """Returns the rows of a metric after a number of comparisons."""
  return list(results.select(own, metric=metric, shots=shots, **columns).itertuples())


def of_best(found: Verdict, metric: str) -> Any:
  """Returns the best learner's row of a metric after the most comparisons; None without one."""
  rows = rows_at(found.own, metric, found.best.shots, learner=found.best.learner)
  return rows[0] if rows else None


def is_clear(row: Any) -> bool:
  """Tells whether the interval of a difference excludes 0."""
  return bool(row.ci_low > 0 or row.ci_high < 0)


def judge(frame: pd.DataFrame, setting: Setting) -> Verdict | None:
  """Returns the verdict on a setting; None where no learner was evaluated beside `pooled`.

  Args:
    frame: of results.
    setting: one that they hold.
  """
  own, last = tables.over_seeds(results.select(frame, **setting.labels)), max(setting.shots)
  learners = [
    row
    for metric in results.HEADLINES
    for row in rows_at(own, metric, last)
    if tables.role_of(row.learner) == 'learner'
  ]
  if not learners:
    return None
  best = max(learners, key=lambda row: row.value)
  to_floor = f'{best.metric}_minus_{FLOOR}'
  names = [row.learner for row in learners]
  gains = [row for row in rows_at(own, to_floor, last) if row.learner in names]
  curve = [
    row for count in setting.shots for row in rows_at(own, to_floor, count, learner=best.learner)
  ]
  to_best = rows_at(own, f'{best.metric}_minus_{best.learner}', last)
  return Verdict(
    setting,
    own,
    best,
    rivals=tuple(row.learner for row in to_best if not is_clear(row)),
    num_learners=len(learners),
    gain=next((row for row in gains if row.learner == best.learner), None),
    since=first_clear(curve),
    gainers=tuple(row for row in gains if row.ci_low > 0),
  )


def first_clear(gains: Sequence[Any]) -> int | None:
  """Returns the shots from which on all gains are above 0 with their intervals, or None."""
  since = None
  for row in sorted(gains, key=lambda row: -int(row.shots)):
    if row.ci_low <= 0:
      break
    since = int(row.shots)
  return since


def of_table(frame: pd.DataFrame, settings: Sequence[Setting]) -> tuple[list[str], list[Section]]:
  """Returns the sentences for the top of a page, and a section with those that are too many there.

  Args:
    frame: of results.
    settings: of all conditions.
  """
  judged = [one for one in (judge(frame, setting) for setting in settings) if one is not None]
  if len(judged) < 2:
    return [sentence for one in judged for sentence in in_full(one)], []
  labels = distinct([one.setting.title for one in judged])
  each = [f'{label}: {in_short(one)}' for label, one in zip(labels, judged, strict=True)]
  if len(each) <= MOST_CONDITIONS:
    return [*overall(judged, labels), *each], []
  return overall(judged, labels), [Section('Condition by condition', text=each)]


def in_full(found: Verdict) -> list[str]:
  """Returns the verdict on one setting, as sentences."""
  said = (ahead(found), gained(found), missed(found), whom(found))
  return [sentence for sentence in said if sentence]


def ahead(found: Verdict) -> str:
  """Returns which learner predicts best, or from which ones it is not told apart."""
  name, users = found.best.learner, f'{found.setting.evaluated.num_users:,}'
  place = f'{name} is the best learner'
  if found.is_alone:
    place = f'{name} is the only learner beside {FLOOR}' if found.gain else f'{name} stands alone'
  elif found.rivals:
    place = f'{name} is ahead, not told apart from {listed(found.rivals)}'
  share = percent(found.best.value)
  place = f'{place}{adjusted(found.num_learners)}'
  return f'{when(found)}, {place}: it predicts {share} of the choices of {users} users right.'


def adjusted(num_learners: int) -> str:
  """Returns for how many comparisons intervals between learners are adjusted; '' for one."""
  if num_learners <= 2:
    return ''
  num_pairs = math.comb(num_learners, 2)
  return f' (adjusted for all {num_pairs} comparisons of {num_learners} learners)'


def gained(found: Verdict) -> str:
  """Returns what is gained over `pooled`, and from how many comparisons on."""
  if found.gain is None:
    return UNKNOWN_GAIN
  size = points(found.gain, of_one(found))
  if found.since is not None:
    return f'It gains {size} over {PLAIN_FLOOR}; {beyond(found)}.'
  if found.gainers:
    most = max(found.gainers, key=lambda row: row.value)
    return (
      f'Its gain over {PLAIN_FLOOR}, is not beyond the interval: {size}. '
      f'That of {most.learner} is: {points(most)}.'
    )
  name = found.best.learner
  return f'No learner gains over {PLAIN_FLOOR}, beyond the interval: {name} has {size}.'


def of_one(found: Verdict) -> str:
  """Returns what the interval of a gain is: of one learner, whichever was chosen by its result."""
  chosen = found.num_learners > 1
  return f'95 % interval{f", not adjusted for {found.num_learners} learners:" * chosen} '


def beyond(found: Verdict) -> str:
  """Returns from where on a gain is beyond its interval."""
  counts, since = sorted(found.setting.shots), found.since
  if found.setting.stream:
    return f'beyond the interval from turn {first_turn(counts, since)} on'
  if len(counts) == 1:
    return 'beyond the interval'
  if since == counts[-1]:
    return f'beyond the interval only after {since}, not after {counts[-2]}'
  return f'beyond the interval from {since} comparison{"s" * (since != 1)} on'


def to_ceiling(found: Verdict) -> tuple[str, Any]:
  """Returns the best that can be reached, by name, and the best learner's row of what it is off it.

  The row is None where no exact answer is known.
  """
  rows = {name: of_best(found, f'{found.best.metric}_minus_{name}') for name in CEILINGS}
  return next(((name, row) for name, row in rows.items() if row is not None), ('', None))


def missed(found: Verdict) -> str:
  """Returns how far the best learner is below what could be reached."""
  name, row = to_ceiling(found)
  if row is not None and is_clear(row):
    side = 'below' if row.value < 0 else 'above'
    return f'It is {points(row, is_size=True)} {side} {CEILINGS[name]}.'
  if row is not None:
    return f'It is not told apart from {CEILINGS[name]}: {points(row)}.'
  oracle = rows_at(found.own, found.best.metric, found.best.shots, learner='oracle')
  if oracle:
    known = percent(oracle[0].value)
    return f'There is no exact answer to compare it with; one who knows the users has {known}.'
  measured = f': {FLOOR} is what learners are measured against' if found.gain is not None else ''
  return f'No ceiling is known of these users{measured}.'


def whom(found: Verdict) -> str:
  """Returns for how many users, and for which groups, the best learner is worse than `pooled`."""
  worse, better = of_best(found, for_whom.WORSE), of_best(found, for_whom.BETTER)
  if worse is None or better is None:
    return ''
  query = metrics.counted(found.setting.evaluated.tasks.query).mask
  each = round(float(np.asarray(query).sum(-1).mean()))
  return (
    f'For {percent(worse.value)} of the users ({span(worse)}) it is worse than {FLOOR}, for '
    f'{percent(better.value)} better, as measured on about {each} comparisons each{groups(found)}.'
  )


def groups(found: Verdict) -> str:
  """Returns in which groups of users the best learner is worse than `pooled`."""
  start = f'{found.best.metric}_minus_{FLOOR}@'
  mine = results.select(found.own, learner=found.best.learner, shots=found.best.shots)
  rows: list[Any] = list(mine[mine['metric'].str.startswith(start)].itertuples())
  if not rows:
    return ''
  worse = [
    f'{name.replace("_", " ")} group {number}: {points(row)}'
    for row in rows
    if row.ci_high < 0
    for name, number in [row.metric.removeprefix(start).split(':')]
  ]
  if not worse:
    return f'; in none of {len(rows)} groups of users is it so beyond the interval'
  return f'; it is so beyond the interval in {listed(worse)}'


def overall(judged: Sequence[Verdict], labels: Sequence[str]) -> list[str]:
  """Returns what holds over several conditions."""
  measured = [one for one in judged if one.gain is not None]
  if not measured:
    said = [UNKNOWN_GAIN]
  else:
    ends = {when(one) for one in measured}
    end = ends.pop() if len(ends) == 1 else 'At the last number of comparisons of each'
    gainers = sum(bool(one.gainers) for one in measured)
    said = [
      f'{end}, learners gain over {FLOOR}, beyond the interval, in {gainers} of '
      f'{len(measured)} conditions (a count that is not adjusted for so many).'
    ]
  clear = [(one, label) for one, label in zip(judged, labels, strict=True) if one.since is not None]
  if clear:
    most, label = max(clear, key=lambda pair: pair[0].gain.value)
    size = points(most.gain, of_one(most))
    said.append(f'The most is {size}, of {most.best.learner}; there: {label}.')
  first = collections.Counter(one.best.learner for one in judged)
  apart = collections.Counter(
    one.best.learner for one in judged if not (one.rivals or one.is_alone)
  )
  places = [
    f'{name} in {count} (told apart from all others in {apart[name]})'
    for name, count in first.most_common()
  ]
  note = adjusted(max(one.num_learners for one in judged))
  return [*said, f'The highest learner is {listed(places)}, each condition on its own{note}.']


def in_short(found: Verdict) -> str:
  """Returns the verdict on one of several conditions, as one sentence."""
  rivals = f', not told apart from {listed(found.rivals)}' if found.rivals else ''
  said = [f'{found.best.learner} {percent(found.best.value)}{rivals}']
  if found.gain is not None:
    size = f'{points(found.gain)} over {FLOOR}'
    said.append(size if is_clear(found.gain) else f'{size}, not told apart')
  name, row = to_ceiling(found)
  if row is not None:
    far = f'{points(row, is_size=True)} {"below" if row.value < 0 else "above"} {name}'
    said.append(far if is_clear(row) else f'not told apart from {name}')
  worse = of_best(found, for_whom.WORSE)
  if worse is not None:
    said.append(f'worse than {FLOOR} for {percent(worse.value)} of the users')
  return f'{"; ".join(said)}.'


def distinct(titles: Sequence[str]) -> list[str]:
  """Returns what each title says that not all of them say; the whole one where that is nothing."""
  parts = [re.split(r', (?![^(]*\))', title) for title in titles]
  common = set.intersection(*map(set, parts))
  return [', '.join(part for part in one if part not in common) or ', '.join(one) for one in parts]


def when(found: Verdict) -> str:
  """Returns after how many comparisons, or in which turns, learners are compared."""
  last = int(found.best.shots)
  if found.setting.stream:
    return f'In turns {first_turn(found.setting.shots, last)} to {last}'
  whom = 'known' if found.setting.split == SEEN else 'new'
  most = 'up to ' * bool(np.asarray(found.setting.tasks.support.mask).sum(-1).min() < last)
  return f'After {most}{last} comparison{"s" * (last != 1)} of a {whom} user'


def first_turn(counts: Sequence[int], end: int | None) -> int:
  """Returns the first of the turns that are evaluated together up to one."""
  return 1 + max((count for count in counts if end is not None and count < end), default=0)


def listed(names: Sequence[str]) -> str:
  """Returns names with commas, and `and` before the last."""
  return ' and '.join([', '.join(names[:-1])] * (len(names) > 1) + [names[-1]])


def percent(share: float) -> str:
  """Returns a share in percent with one digit."""
  return f'{digit(share)}\N{NO-BREAK SPACE}%'


def points(row: Any, before: str = '', *, is_size: bool = False) -> str:
  """Returns a difference in points with its interval.

  Args:
    row: of the results.
    before: what to say of the interval.
    is_size: give the size of the difference, not its sign.
  """
  sign = -1 if is_size and row.value < 0 else 1
  return f'{digit(sign * row.value)} points ({before}{span(row, sign)})'


def span(row: Any, sign: int = 1) -> str:
  """Returns the interval of a row in percent; with `sign` -1 that of the opposite."""
  low, high = sorted((sign * row.ci_low, sign * row.ci_high))
  return f'{digit(low)} to {digit(high)}'


def digit(share: float) -> str:
  """Returns 100 times a share with one digit, never as -0.0."""
  return f'{round(100 * share, 1) + 0.0:.1f}'
