"""What a reading is made of: the predictions of one setting, and rows and tables of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from metapers.bench import results, tables
from metapers.bench.cells import BySeed
from metapers.bench.settings import Setting
from metapers.evaluation import estimates
from metapers.evaluation.estimates import Estimates
from metapers.evaluation.predictions import Predictions
from metapers.io.report import Table

FLOOR = 'pooled'
# Name -> what it is. Of those that a setting has the first counts: the most that can be reached.
CEILINGS = {
  'bayes_pair': 'bayes_pair, the exact answer to one who sees the pair and not its slate',
  'bayes': 'bayes, the exact answer',
  'bayes_features': 'bayes_features, the exact answer to one who sees the features',
  'bayes_scores': 'bayes_scores, the exact answer to one who sees the scores',
}


class Evidence(NamedTuple):
  """What is read of one setting.

  setting: the users. predictions: row -> seed -> its predictions; the seed of a reference is ''.
  overall: row -> its estimates, averaged over seeds. at: index into the numbers of shots, of the
  one at which tables stand that do not run over shots.
  """

  setting: Setting
  predictions: BySeed
  overall: Mapping[str, Estimates]
  at: int

  @property
  def shots(self) -> int:
    """The number of shots at `at`."""
    return self.setting.shots[self.at]

  @property
  def ceiling(self) -> str:
    """The reference that gaps are measured to; '' without one."""
    return next((name for name in CEILINGS if name in self.overall), '')


class Part(NamedTuple):
  """One part of a reading: sentences, tables, and rows of the results."""

  text: tuple[str, ...] = ()
  tables: tuple[Table, ...] = ()
  frame: pd.DataFrame = results.join([])


def averaged(
  predictions: BySeed, measure: Callable[[str, str, Predictions], Estimates]
) -> dict[str, Estimates]:
  """Returns `measure(row, seed, predictions)` averaged over each row's seeds."""
  return {
    name: estimates.average([measure(name, seed, made) for seed, made in by_seed.items()], name)
    for name, by_seed in predictions.items()
  }


def minus(found: Mapping[str, Estimates], reference: str) -> dict[str, Estimates]:
  """Returns what each other row has more than a reference, paired."""
  if reference not in found:
    return {}
  return {
    name: estimates.differences(own, found[reference], reference)
    for name, own in found.items()
    if name != reference
  }


def keep(found: Estimates, metrics: Iterable[str], *, suffix: str = '') -> Estimates:
  """Returns some of the metrics, their names followed by a suffix."""
  return {f'{metric}{suffix}': found[metric] for metric in metrics if metric in found}


def at_shots(found: Estimates, given: Evidence) -> dict[str, np.ndarray]:
  """Returns estimates at the one number of shots: [J, 1]."""
  return {metric: samples[:, [given.at]] for metric, samples in found.items()}


def rows(
  given: Evidence,
  learner: str,
  found: Estimates,
  shots: Sequence[int],
  *,
  num_users: int | None = None,
) -> pd.DataFrame:
  """Returns the estimates of one row, or of the users themselves where `learner` is ''.

  Numbers that do not apply (NaN) give no row.
  """
  seeds = list(given.predictions.get(learner, {'': None}))
  seed = seeds[0] if len(seeds) == 1 else results.ALL_SEEDS
  labels = results.labels_of(given.setting, learner, seed)
  sizes = given.setting.evaluated.sizes
  if num_users is not None:
    sizes['num_users'] = num_users
  num_seeds = results.fewest_seeds(given.predictions)
  return results.rows(found, shots, labels, num_seeds=num_seeds, **sizes)


def over_shots(
  given: Evidence, caption: str, frame: pd.DataFrame, metric: str, *, note: str
) -> tuple[Table]:
  """Returns the table of one metric with numbers of shots across."""
  columns = {(metric, count): str(count) for count in given.setting.shots}
  return (tables.pivot(caption, frame, columns, note=note),)
