"""From predictions to results: a data frame with one row for each number, as in results.csv."""

import functools
import math
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from metapers.bench.settings import Setting
from metapers.core import files
from metapers.evaluation import estimates, intervals, streams
from metapers.evaluation.estimates import Estimates
from metapers.evaluation.predictions import Predictions

Evaluated = Mapping[str, Mapping[str, Estimates]]  # row -> seed -> its estimates
ORACLE = 'oracle'
REFERENCES = (
  ORACLE,
  'oracle_features',
  'bayes',
  'bayes_pair',
  'bayes_mixture',
  'bayes_scores',
  'bayes_features',
  'bayes_seen',
)
BASELINES = ('pooled',)
HEADLINES = ('accuracy', 'turn_accuracy')  # a setting has one of these
COMPARED_WITH = (
  'pooled', 'bayes_pair', 'bayes', 'bayes_mixture', 'bayes_features', 'bayes_scores',
)  # fmt: skip
ALL_SEEDS = 'all'
LABELS = (
  'protocol', 'population', 'track', 'normalization', 'split', 'pair_rule', 'concentration',
  'temperature', 'learner', 'seed', 'train_shots', 'train_steps',
)  # fmt: skip
CELL = (*LABELS, 'shots', 'metric')  # two rows that agree in these are one cell, measured twice
NUMBERS = ('value', 'ci_low', 'ci_high')
COLUMNS = (*CELL, *NUMBERS, 'num_users')


def text_of(value: object) -> str:
  """Returns a label as text: numbers in their shortest form, None as the empty text."""
  if value is None:
    return ''
  return f'{value:g}' if isinstance(value, float) else str(value)


def evaluate_all(
  setting: Setting, predictions: Mapping[str, Mapping[str, Predictions]]
) -> dict[str, dict[str, Estimates]]:
  """Returns the estimates of every learner and reference of a setting: row -> seed -> estimates.

  Args:
    setting: the users.
    predictions: row -> seed -> its predictions; the seed of a reference is ''.

  Raises:
    ValueError: naming whose predictions cannot be evaluated, and on whom.
  """
  return {
    name: {seed: evaluate(setting, f'{name} {seed}'.strip(), made) for seed, made in own.items()}
    for name, own in predictions.items()
  }


def evaluate(setting: Setting, name: str, made: Predictions) -> Estimates:
  """Returns the estimates of predictions of a setting; those of a stream turn by turn.

  Raises:
    ValueError: for predictions that cannot be evaluated, naming whose they are.
  """
  try:
    if setting.stream:
      return streams.estimate(setting.evaluated, made, setting.shots)
    return estimates.estimate(setting.evaluated, made)
  except ValueError as error:
    raise ValueError(f'{name} on {setting.title}: {error}') from error


def over_seeds(evaluated: Evaluated) -> dict[str, Estimates]:
  """Returns every row's estimates averaged over its seeds."""
  return {
    name: estimates.average(list(by_seed.values()), name) for name, by_seed in evaluated.items()
  }


def fewest_seeds(by_row: Mapping[str, Mapping[str, object]]) -> int:
  """Returns the fewest seeds of those rows that have several; 1 where none has."""
  return min((len(by_seed) for by_seed in by_row.values() if len(by_seed) > 1), default=1)


def rows_of(setting: Setting, evaluated: Evaluated) -> pd.DataFrame:
  """Returns the results of a setting, and paired differences to COMPARED_WITH.

  Learners are compared with the best of them too, by the metric that the setting is read by, with
  intervals of all pairs at once, see `level_of_pairs`.
  """
  overall = over_seeds(evaluated)
  learners = {name: overall[name] for name in overall if name not in REFERENCES + BASELINES}
  best = best_of(learners)
  num_seeds = fewest_seeds(evaluated)
  parts = []
  for name, by_seed in evaluated.items():
    if len(by_seed) > 1:
      parts += [learner_rows(setting, name, seed, found) for seed, found in by_seed.items()]
    seed = ALL_SEEDS if len(by_seed) > 1 else next(iter(by_seed))
    parts.append(learner_rows(setting, name, seed, overall[name], num_seeds=num_seeds))
    for other in COMPARED_WITH:
      if other in overall and other != name:
        paired = estimates.differences(overall[name], overall[other], other)
        parts.append(learner_rows(setting, name, seed, paired, num_seeds=num_seeds))
    if name in learners and name != best:
      paired = estimates.differences(headline(overall[name]), overall[best], best)
      sizes = {'num_seeds': num_seeds, 'level': level_of_pairs(len(learners))}
      parts.append(learner_rows(setting, name, seed, paired, **sizes))
  return join(parts)


def level_of_pairs(num_learners: int) -> float:
  """Returns the level of each interval at which those of all pairs hold at once in 95 %.

  1 - .05 / (k (k - 1) / 2), Bonferroni's. Which learner is best is read off the same users: the
  largest of all differences is looked at, not one that was chosen before. Tukey's studentized range
  would be 2 to 3 % narrower, for differences that are equally uncertain.
  """
  return 1 - 0.05 / max(math.comb(num_learners, 2), 1)


def headline(found: Estimates) -> Estimates:
  """Returns of a row's estimates those of the metric that it is read by."""
  return {metric: found[metric] for metric in HEADLINES if metric in found}


def best_of(overall: Mapping[str, Estimates]) -> str:
  """Returns which row has the highest value after the most comparisons; '' of none."""
  last = {name: next(iter(headline(found).values()))[0, -1] for name, found in overall.items()}
  return max(last, key=lambda name: last[name], default='')


def labels_of(setting: Setting, learner: str, seed: str) -> dict[str, object]:
  """Returns the labels of one row of a setting."""
  return {**setting.labels, 'learner': learner, 'seed': seed, **setting.trained.get(learner, {})}


def learner_rows(
  setting: Setting,
  learner: str,
  seed: str,
  found: Estimates,
  *,
  num_seeds: int = 1,
  level: float = 0.95,
) -> pd.DataFrame:
  """Returns one row's estimates with their labels."""
  labels, sizes = labels_of(setting, learner, seed), setting.evaluated.sizes
  return rows(found, setting.shots, labels, num_seeds=num_seeds, level=level, **sizes)


def rows(
  found: Mapping[str, np.ndarray],
  shots: Sequence[int],
  labels: Mapping[str, object],
  *,
  num_users: int,
  num_prompts: int = intervals.MANY,
  num_seeds: int = 1,
  num_items: int = 1,
  level: float = 0.95,
) -> pd.DataFrame:
  """Returns a learner's estimates as rows, one for each metric and number of shots.

  Numbers that do not apply (NaN) give no row.

  Args:
    found: metric -> [J, L], row 0 the value and the others its resamples.
    shots: the L numbers of support comparisons.
    labels: column -> what it says; columns left out are not applicable: the empty text.
    num_users: that were evaluated. num_prompts: or items, where they were resampled.
    num_seeds: the fewest of a row with several, see `intervals.interval`.
    num_items: of a comparison, where items were resampled.
    level: of the intervals.

  Raises:
    ValueError: for a label that is not a column.
  """
  unknown = sorted(set(labels) - set(LABELS))
  if unknown:
    raise ValueError(f'unknown columns {", ".join(unknown)}; known: {", ".join(LABELS)}')
  texts = {name: text_of(labels.get(name)) for name in LABELS}
  is_certain = texts['learner'] == ORACLE  # it knows the truth of new users, too
  sizes = {'num_users': num_users, 'num_prompts': num_prompts, 'num_items': num_items}
  interval = functools.partial(
    estimates.interval, is_certain=is_certain, num_seeds=num_seeds, level=level, **sizes
  )
  numbers = [interval(metric, samples) for metric, samples in found.items()]
  if not numbers:
    return join([])
  made = pd.DataFrame(
    {
      **texts,
      'shots': [str(count) for count in shots] * len(found),
      'metric': [metric for metric in found for _ in shots],
      **dict(zip(NUMBERS, np.concatenate(numbers, axis=1), strict=True)),
      'num_users': num_users,
    }
  )
  return made[made['value'].notna()].reset_index(drop=True)


def join(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
  """Returns rows of several frames in one, with all columns where there are none."""
  made = [part for part in parts if len(part)]
  return pd.concat(made, ignore_index=True) if made else pd.DataFrame(columns=list(COLUMNS))


def merge(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
  """Returns the rows of both; of two of one cell the new one."""
  return join([old, new]).drop_duplicates(list(CELL), keep='last', ignore_index=True)


def select(frame: pd.DataFrame, **columns: object) -> pd.DataFrame:
  """Returns the rows whose columns say what is asked, such as `metric='accuracy'`."""
  wanted = pd.Series(True, index=frame.index)
  for name, value in columns.items():
    wanted &= frame[name] == text_of(value)
  return frame[wanted]


def changes_of(protocol: str) -> dict[str, str]:
  """Returns what stands behind a protocol's name in its column: the options that conditions change.

  Of 'budget num_users=50 num_labels=8' that is {'num_users': '50', 'num_labels': '8'}.
  """
  return dict(part.split('=', 1) for part in protocol.split(' ')[1:] if '=' in part)


def read_results(path: str | os.PathLike) -> pd.DataFrame:
  """Returns the rows of a results.csv; none where there is no file.

  Raises:
    ValueError: for a file with other columns, or text where a number must stand.
  """
  path = pathlib.Path(path)
  if not path.exists():
    return join([])
  try:
    frame = pd.read_csv(
      files.regular(path),
      dtype=dict.fromkeys(CELL, str),
      keep_default_na=False,
      na_values={name: [''] for name in NUMBERS},
    )
  except (ValueError, pd.errors.ParserError) as error:
    raise ValueError(f'{path} is no table of results: {error}') from error
  if tuple(frame.columns) != COLUMNS:
    raise ValueError(
      f'{path} has columns {list(frame.columns)}; expected {list(COLUMNS)}: move it away'
    )
  for name in (*NUMBERS, 'num_users'):
    if not pd.api.types.is_numeric_dtype(frame[name]):
      raise ValueError(f'{path}: column {name} holds text where numbers are expected')
  return frame


def write_results(path: str | os.PathLike, frame: pd.DataFrame) -> pathlib.Path:
  """Writes a results.csv with six digits, whole or not at all, and returns its path."""
  text = frame.to_csv(columns=list(COLUMNS), index=False, float_format='%.6g', lineterminator='\n')
  return files.write_atomically(path, text)


def append_results(path: str | os.PathLike, new: pd.DataFrame) -> pathlib.Path:
  """Adds rows to a results.csv, replacing those of the same cells, and returns its path."""
  return write_results(path, merge(read_results(path), new))
