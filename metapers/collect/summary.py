"""How a study goes: shares with intervals over participants, and who answered how much."""

import datetime
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from metapers.collect import study as studies
from metapers.collect.store import Question
from metapers.collect.study import Study

WINDOW = 600  # seconds over which the pace is taken
BLOCK = 5  # questions to a point of the curve
LEVEL = 0.95


class Share(NamedTuple):
  """A share with the ends of its 95 % interval; count: of what; name: of which questions."""

  value: float
  low: float
  high: float
  count: int
  name: str = ''


class Row(NamedTuple):
  """One participant. seconds: the median that an answer took; None without answers."""

  id: int
  answers: int
  seconds: float | None
  checks: str
  again: str
  last: str


class Summary(NamedTuple):
  """A study so far; curve: accuracy on control questions, by the number of the question."""

  num_participants: int
  num_answers: int
  per_minute: float
  accuracy: Share
  agreement: Share
  attention: Share
  curve: list[Share]
  participants: list[Row]


def share(found: Sequence[Sequence[bool]], name: str = '') -> Share:
  """Returns the share that is True, with a 95 % interval over participants.

  The linearised variance of a ratio of sums over U participants, U/(U - 1) Σ (c_u - p n_u)² / n²,
  with Student's t. Where no two differ, or there is one alone, the interval is that of Clopper and
  Pearson for one outcome a participant, which is never narrower.

  Args:
    found: outcomes of each participant.
    name: of the share.
  """
  counts = np.array([len(own) for own in found if own], float)
  right = np.array([sum(own) for own in found if own], float)
  if not counts.size:
    return Share(0.0, 0.0, 1.0, 0, name)
  size, value = counts.size, right.sum() / counts.sum()
  if np.all(right * counts[0] == right[0] * counts):  # whole numbers: exact, as shares are not
    low, high = stats.binomtest(round(value * size), size).proportion_ci(LEVEL)
    low, high = min(low, value), max(high, value)
  else:
    variance = size / (size - 1) * np.sum((right - value * counts) ** 2) / counts.sum() ** 2
    reach = stats.t.ppf((1 + LEVEL) / 2, size - 1) * np.sqrt(variance)
    low, high = max(value - reach, 0.0), min(value + reach, 1.0)
  return Share(float(value), float(low), float(high), int(counts.sum()), name)


def is_right(question: Question) -> bool:
  """Returns whether what was chosen is what had been predicted; a tie counts for the first."""
  predicted, answer = question.predicted, question.answer
  return bool(predicted and answer and int(np.argmax(predicted)) == answer.choice)


def predicted_controls(history: Sequence[Question]) -> list[Question]:
  """Returns the control questions with a choice and a prediction: on them accuracy is reported."""
  return [
    question
    for question in history
    if question.kind == 'control'
    and question.predicted
    and question.answer is not None
    and question.answer.choice is not None
  ]


def summarise(study: Study, now: float) -> Summary:
  """Returns how a study goes, at a time in seconds since 1970."""
  histories = study.store.histories()
  answered = [q for history in histories.values() for q in history if q.answer]
  recent = sum(1 for q in answered if q.answer and q.answer.time > now - WINDOW)
  controls = [predicted_controls(history) for history in histories.values()]
  checks = {user: _checks(history) for user, history in histories.items()}
  again = {user: studies.agreement(history) for user, history in histories.items()}
  return Summary(
    len(study.store.participants()),
    len(answered),
    60 * recent / WINDOW,
    share([[is_right(q) for q in own] for own in controls]),
    share(list(again.values())),
    share(list(checks.values())),
    _curve(controls, study.settings.num_questions),
    [
      _row(row['id'], histories.get(row['id'], []), checks, again)
      for row in study.store.participants()
    ],
  )


def when(time: float) -> str:
  """Returns a time in seconds since 1970 as words, in UTC."""
  return datetime.datetime.fromtimestamp(time, datetime.UTC).strftime('%Y-%m-%d %H:%M')


def _curve(controls: list[list[Question]], most: int) -> list[Share]:
  points = []
  for first in range(0, most, BLOCK):
    last = min(first + BLOCK, most)
    within = [[is_right(q) for q in own if first <= q.position < last] for own in controls]
    point = share(within, f'{first + 1}–{last}')
    points += [point] if point.count else []
  return points


def _checks(history: Sequence[Question]) -> list[bool]:
  return [studies.correct_check(q) for q in history if q.kind == 'attention' and q.answer]


def _row(user: int, history: list[Question], checks: dict, again: dict) -> Row:
  answers = [q.answer for q in history if q.answer]
  durations = [answer.duration for answer in answers if answer.duration is not None]
  passed, same = checks.get(user, []), again.get(user, [])
  return Row(
    user,
    len(answers),
    statistics.median(durations) if durations else None,
    f'{sum(passed)} of {len(passed)}' if passed else '',
    f'{sum(same)} of {len(same)}' if same else '',
    when(max(answer.time for answer in answers)) if answers else '',
  )
