"""What answers of a study of in-context learning come to: policy accuracy, with intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from metapers.bench.language.in_context import ZERO, Row, Study, shares_right
from metapers.bench.language.in_context_runs import Answer, Cell
from metapers.core.types import Float
from metapers.evaluation import bootstrap, estimates, intervals

COLUMNS = (
  'row', 'source', 'arm', 'shots', 'metric', 'value', 'ci_low', 'ci_high', 'num_users',
  'num_queries', 'prompt_tokens', 'num_dropped',
)  # fmt: skip
# A reply is preferred by its log-probability, by that of a token, or by what examples add to it.
ACCURACY, PER_TOKEN, SHIFT = 'policy_accuracy', 'policy_accuracy_per_token', 'shift_accuracy'
SHOWN = ('metric', 'value', 'ci_low', 'ci_high')
BESIDE = '_minus_zero_shot'
SHORTER, MEAN_REWARD, WRITER = 'shorter reply', 'mean reward', 'writer'

Table = Float[np.ndarray, 'T M']


class Answers:
  """Answers as arrays [T, M, 2] of the preferred and of the other reply.

  Raises:
    ValueError: for a row that has not been asked to the end.
  """

  def __init__(self, study: Study, answers: Mapping[str, Answer]):
    self._answers, self._shape = answers, study.queries.prompts.shape

  def of(self, row: Row, field: str) -> np.ndarray:
    """Returns a field of a row's answers, [T, M] or [T, M, 2]."""
    keys = [Cell(row, *index).key for index in np.ndindex(self._shape)]
    missing = [key for key in keys if key not in self._answers]
    if missing:
      raise ValueError(f'{len(missing)} of {len(keys)} answers of {row} are missing: ask first')
    found = np.array([getattr(self._answers[key], field) for key in keys])
    return found.reshape(*self._shape, *found.shape[1:])


def measured(
  study: Study, rows: Sequence[Row], answers: Mapping[str, Answer], *, num_resamples: int = 1000
) -> pd.DataFrame:
  """Returns a line for each row and metric, and the paired difference of accuracy to zero shot.

  Intervals are for new users and new prompts. Beside the model stand who prefers the shorter reply,
  the reply of larger mean reward, and the reply whose writer known users like better.

  Args:
    study: users and queries.
    rows: what was shown; zero shot among them for differences and shifts.
    answers: to all of them.
    num_resamples: of the bootstrap.
  """
  found = Answers(study, answers)
  values = {row: metrics_of(found, row, has_zero=ZERO in rows) for row in rows}
  beside = rivals(study, found.of(rows[0], 'num_tokens'))
  prompts = study.queries.prompts
  draws = bootstrap.draw(len(prompts), prompts, num_resamples=num_resamples, seed=0)
  weights = bootstrap.weights(draws, np.ones(prompts.shape), prompts)
  sizes = {'num_users': len(prompts), 'num_prompts': np.unique(prompts).size}

  def samples_of(tables):
    return estimates.weigh(weights, np.stack(list(tables.values()))[:, None], list(tables))

  lines = []
  zero = samples_of(values[ZERO])[0] if ZERO in rows else None
  for row, tables in (values | {name: {ACCURACY: each} for name, each in beside.items()}).items():
    told = described(found, row, prompts)
    samples = samples_of(tables)
    for metric, each in zip(tables, samples):
      lines.append(told | line_of(metric, np.clip(intervals.share_interval(each, **sizes), 0, 1)))
    if zero is not None and row != ZERO:
      away = intervals.interval(samples[0] - zero, **sizes)
      lines.append(told | line_of(ACCURACY + BESIDE, away))
  return pd.DataFrame(lines, columns=list(COLUMNS))


def metrics_of(found: Answers, row: Row, *, has_zero: bool) -> dict[str, Table]:
  """Returns what each metric says of each query of each user."""
  log_probs, lengths = found.of(row, 'log_probs'), found.of(row, 'num_tokens')
  compared = {ACCURACY: log_probs, PER_TOKEN: log_probs / lengths}
  if has_zero and row != ZERO:
    compared[SHIFT] = log_probs - found.of(ZERO, 'log_probs')
  return {name: shares_right(*np.moveaxis(each, -1, 0)) for name, each in compared.items()}


def rivals(study: Study, lengths: np.ndarray) -> dict[str, Table]:
  """Returns how right those are who read no text of the user, by name.

  Args:
    study: users and queries.
    lengths: tokens of the preferred and of the other reply, [T, M, 2].
  """
  queries = study.queries
  scores = study.test.scores['z'].mean(-1)
  wins = writer_wins(study)[study.test.response_model]
  pairs = {
    SHORTER: tuple(-np.moveaxis(lengths, -1, 0).astype(float)),
    MEAN_REWARD: (
      scores[queries.prompts, queries.preferred],
      scores[queries.prompts, queries.other],
    ),
    WRITER: (wins[queries.prompts, queries.preferred], wins[queries.prompts, queries.other]),
  }
  return {name: shares_right(*pair) for name, pair in pairs.items()}


def writer_wins(study: Study) -> Float[np.ndarray, 'writers']:
  """Returns how often each writer's replies were best to known users, less how often worst."""
  best, worst = (
    study.train.response_model[study.known.prompts, each].ravel()
    for each in (study.known.winning, study.known.losing)
  )
  count = len(study.train.response_models)
  return (np.bincount(best, minlength=count) - np.bincount(worst, minlength=count)).astype(float)


def described(found: Answers, row: Row | str, prompts: np.ndarray) -> dict[str, Any]:
  """Returns what a line says of its row."""
  common = {'row': str(row), 'num_users': len(prompts), 'num_queries': prompts.size}
  if isinstance(row, str):
    return common | {'source': '', 'arm': '', 'shots': 0}
  tokens, dropped = found.of(row, 'prompt_tokens'), found.of(row, 'num_dropped')
  return common | row._asdict() | {
    'prompt_tokens': int(tokens.sum()), 'num_dropped': int(dropped.sum())
  }  # fmt: skip


def line_of(metric: str, interval: Float[np.ndarray, '3 L']) -> dict[str, Any]:
  """Returns a metric with its value, low and high."""
  value, low, high = interval[:, 0].tolist()
  return {'metric': metric, 'value': value, 'ci_low': low, 'ci_high': high}


def in_words(frame: pd.DataFrame) -> list[str]:
  """Returns a table for people: each row's accuracy, and its difference to zero shot, in points."""
  width = max(map(len, frame['row']))
  lines = [f'{"row":{width}}  accuracy (%)   over zero shot   per token   shift']
  for name, of_row in frame.groupby('row', sort=False):
    shown = {
      metric: f'{100 * value:5.1f} ± {50 * (high - low):.1f}'
      for metric, value, low, high in of_row[list(SHOWN)].itertuples(index=False)
    }
    each = (shown.get(m, '') for m in (ACCURACY, ACCURACY + BESIDE, PER_TOKEN, SHIFT))
    lines.append('  '.join([f'{name:{width}}', *(f'{x:12}' for x in each)]).rstrip())
  return lines
