"""Results beyond a table of accuracies: calibration, groups of users, and what picks cost."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
import pandas as pd

from metapers.analysis import disagreement, distances, flips, groups, tax
from metapers.analysis.costs import Costs
from metapers.analysis.groups import Groups
from metapers.bench import report, results, tables
from metapers.bench.cells import BySeed
from metapers.bench.plan import TextLengths
from metapers.bench.settings import Setting
from metapers.core.population import Population
from metapers.core.task import Truth
from metapers.evaluation import estimates
from metapers.evaluation.estimates import Estimates
from metapers.evaluation.predictions import Predictions
from metapers.io.report import Section, Table

FLOOR = 'pooled'
CEILINGS = ('bayes', 'bayes_scores')
CALIBRATION = (
  'accuracy', 'nll', 'confidence', 'ece', 'selective_accuracy_80', 'selective_accuracy_50',
  'accuracy_worst_decile',
)  # fmt: skip
GROUP_METRICS = ('accuracy', 'nll')


class Extras(NamedTuple):
  """What a reading may be given besides predictions; what is missing is left out.

  flipped: row -> seed -> predictions after adapting to flipped labels. costs: row -> its costs.
  texts: of the store. trained_on: the population whose users learners were trained on; by default
  the setting's own.
  """

  flipped: BySeed | None = None
  costs: Mapping[str, Costs] | None = None
  texts: TextLengths | None = None
  trained_on: Population | None = None


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


class Reading(NamedTuple):
  """A section of the report, and the rows of the results behind it."""

  section: Section
  frame: pd.DataFrame


def read_setting(
  setting: Setting,
  predictions: BySeed,
  overall: Mapping[str, Estimates],
  *,
  extras: Extras = Extras(),
  shots: int | None = None,
) -> Reading:
  """Returns what results say of a setting beyond accuracy.

  Args:
    setting: the users.
    predictions: row -> seed -> its predictions; the seed of a reference is ''.
    overall: row -> its estimates, averaged over seeds.
    extras: what else is known.
    shots: at which tables stand that do not run over shots; the most evaluated by default.

  Raises:
    ValueError: for a number of shots that was not evaluated, or predictions at other ones.
  """
  require_shots(setting, predictions)
  at = setting.shots.index(max(setting.shots) if shots is None else evaluated(shots, setting))
  given = Evidence(setting, predictions, overall, at)
  parts = [calibration(given), share_of_gap(given), flip_rates(given, extras.flipped)]
  if setting.truth is None:
    parts.append(Part(('The weights of these users are unknown: no groups and no tax.',)))
  else:
    trained_on = extras.trained_on or setting.populations[0]
    parts += [
      by_users(given, setting.truth, trained_on),
      taxes(given, setting.truth, extras.texts),
    ]
  if extras.costs:
    parts.append(Part(tables=(report.costs_table(extras.costs),)))
  section = Section(
    f'{setting.title}: for whom, how well calibrated, at what price',
    text=[line for part in parts for line in part.text],
    tables=[table for part in parts for table in part.tables],
  )
  return Reading(section, results.join([part.frame for part in parts]))


def require_shots(setting: Setting, predictions: BySeed) -> None:
  """Refuses predictions that are not one for each number of shots, such as those of a stream.

  Raises:
    ValueError: naming the row.
  """
  for name, by_seed in predictions.items():
    rows = {len(made.log_probs) for made in by_seed.values()}
    if rows != {len(setting.shots)}:
      raise ValueError(
        f'{name} predicts at {sorted(rows)} numbers of shots, {setting.title} has '
        f'{len(setting.shots)}; streams are read by turn, not here'
      )


def evaluated(shots: int, setting: Setting) -> int:
  """Returns the number of shots if it was evaluated.

  Raises:
    ValueError: if not.
  """
  if shots not in setting.shots:
    known = ', '.join(map(str, setting.shots))
    raise ValueError(f'shots={shots} was not evaluated; choose among {known}')
  return shots


def averaged(
  predictions: BySeed, measure: Callable[[str, str, Predictions], Estimates]
) -> dict[str, Estimates]:
  """Returns `measure(row, seed, predictions)` averaged over each row's seeds."""
  return {
    name: estimates.average([measure(name, seed, made) for seed, made in by_seed.items()])
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
  size = given.setting.evaluated.num_users if num_users is None else num_users
  parts = []
  for column, count in enumerate(shots):
    there = {
      metric: samples[:, column : column + 1]
      for metric, samples in found.items()
      if np.isfinite(samples[0, column])
    }
    parts.append(results.rows(there, [count], labels, num_users=size))
  return results.join(parts)


def over_shots(given: Evidence, caption: str, frame: pd.DataFrame, metric: str) -> tuple[Table]:
  """Returns the table of one metric with numbers of shots across."""
  columns = {(metric, count): str(count) for count in given.setting.shots}
  return (tables.pivot(caption, frame, columns),)


def calibration(given: Evidence) -> Part:
  """Returns how well confidence and accuracy agree; these rows are in the results already."""
  made = [
    rows(given, name, at_shots(keep(found, CALIBRATION), given), [given.shots])
    for name, found in given.overall.items()
  ]
  columns = {
    (metric, given.shots): f'{metric} ({tables.unit_of(metric)})' for metric in CALIBRATION
  }
  caption = (
    f'calibration after {given.shots} shots: selective accuracy is that on the most confident 80 % '
    'and 50 % of the predictions'
  )
  return Part(tables=(tables.pivot(caption, results.join(made), columns),))


def share_of_gap(given: Evidence) -> Part:
  """Returns which share of (ceiling - pooled) learners recover, wherever that is wide enough."""
  overall, ceiling = given.overall, given.ceiling
  if not ceiling or FLOOR not in overall:
    return Part()
  metric = f'accuracy_share_of_{ceiling}'
  made = results.join(
    [
      rows(
        given,
        name,
        {metric: estimates.recovered(own, overall[FLOOR], overall[ceiling])},
        given.setting.shots,
      )
      for name, own in overall.items()
      if name not in (FLOOR, *tables.REFERENCES)
    ]
  )
  points = round(100 * estimates.LEAST_GAP)
  if not len(made):
    return Part((f'{ceiling} is less than {points} points above {FLOOR} everywhere.',))
  caption = f'share (%) of {ceiling} − {FLOOR} in accuracy, where it is {points} points or more'
  return Part(tables=over_shots(given, caption, made, metric), frame=made)


def flip_rates(given: Evidence, after: BySeed | None) -> Part:
  """Returns how many predictions change when all labels of the support are flipped."""
  if not after:
    return Part()

  def measure(name, seed, made):
    before = given.predictions[name][seed]
    return {'flip_rate': flips.flip_rate(given.setting.evaluated, before, made)}

  found = averaged(after, measure)
  made = results.join([rows(given, name, own, given.setting.shots) for name, own in found.items()])
  caption = 'flip rate: predictions (%) that change when all labels of the support are flipped'
  return Part(tables=over_shots(given, caption, made, 'flip_rate'), frame=made)


def by_users(given: Evidence, truth: Truth, trained_on: Population) -> Part:
  """Returns how new users are, and results by distance to the train users and by entropy.

  Args:
    given: of simulated users.
    truth: of the same.
    trained_on: whose train users are those that learners were trained on.
  """
  population, evaluated = given.setting.populations[0], given.setting.evaluated
  facts, known = population.simulation, trained_on.simulation
  if facts is None or facts.responses is None or known is None or known.users is None:
    return Part(('The weights of the train users are unknown: no groups by distance to them.',))
  responses = facts.responses(population.arrays, given.setting.prompt_split)
  contrasts = disagreement.random_contrasts(jax.random.key(0), responses, evaluated.draws.ids)
  nearest = distances.to_nearest(truth.weights, distances.train_weights(trained_on), contrasts)
  found = distances.describe_users(evaluated, nearest, contrasts)
  parts = [by_group(given, one) for one in distances.user_groups(truth.weights, nearest).values()]
  described = rows(given, '', found, [0]).assign(shots='')
  return Part(
    distances.in_words(found, nearest, len(contrasts.prompts)),
    tuple(table for part in parts for table in part.tables),
    results.join([described, *(part.frame for part in parts)]),
  )


def by_group(given: Evidence, divided: Groups) -> Part:
  """Returns results by group of users: accuracy, NLL, and what is gained over `pooled`."""

  def measure(name, seed, made):
    del name, seed
    found = groups.estimate(given.setting.evaluated, made, divided, row=given.at)
    return keep(found, GROUP_METRICS)

  found = averaged(given.predictions, measure)
  differences = [minus(found, reference) for reference in (FLOOR, given.ceiling) if reference]
  made = results.join(
    [
      group_rows(given, name, own, divided)
      for several in (found, *differences)
      for name, own in several.items()
    ]
  )
  return Part(tables=(group_table(given, made, divided),), frame=made)


def group_rows(given: Evidence, learner: str, found: Estimates, divided: Groups) -> pd.DataFrame:
  """Returns estimates [J, G] as rows `{metric}@{groups}:{number}`, numbered from 1."""
  parts = []
  for group, size in enumerate(groups.sizes(divided, given.setting.evaluated)):
    samples = {
      f'{metric}@{divided.name}:{group + 1}': value[:, group : group + 1]
      for metric, value in found.items()
    }
    parts.append(rows(given, learner, samples, [given.shots], num_users=int(size)))
  return results.join(parts)


def group_table(given: Evidence, frame: pd.DataFrame, divided: Groups) -> Table:
  """Returns accuracy by group, and what is gained over `pooled`."""
  counts = groups.sizes(divided, given.setting.evaluated)
  columns = {
    (f'{metric}@{divided.name}:{group + 1}', given.shots): header.format(label, counts[group])
    for metric, header in (
      ('accuracy', '{} ({} users)'),
      (f'accuracy_minus_{FLOOR}', f'{{}}: − {FLOOR}'),
    )
    for group, label in enumerate(divided.labels)
    if metric == 'accuracy' or FLOOR in given.predictions
  }
  caption = f'accuracy (%) ± half a 95 % interval after {given.shots} shots, by {divided.title}'
  return tables.pivot(caption, frame, columns)


def taxes(given: Evidence, truth: Truth, texts: TextLengths | None) -> Part:
  """Returns what personal picks cost in safety, in the mean reward and in length, by subset."""
  simulation = given.setting.populations[0].simulation
  has_slates = 'slate' in given.setting.evaluated.weights
  if simulation is None or FLOOR not in given.predictions or not has_slates:
    return Part(('No tax: it needs the pooled learner, slates and names of reward models.',))
  measured = tax.outcomes(truth, simulation.reward_models, lengths=texts and texts.lengths)
  missing = [name for name in (tax.SAFETY, 'length') if name not in measured]
  text = (f'Tax: {" and ".join(missing)} are not known here.',) if missing else ()
  subsets = {'': np.ones(truth.slate_prompts.shape, bool)}
  if texts is not None:
    subsets |= tax.subsets(truth, texts.subset)
  made = results.join(
    [tax_rows(given, measured, slates, subset) for subset, slates in subsets.items()]
  )
  shown = tuple(tax_table(given, made, outcome, list(subsets)) for outcome in measured)
  return Part(text, shown, made)


def tax_rows(
  given: Evidence, measured: tax.Outcomes, slates: np.ndarray, subset: str
) -> pd.DataFrame:
  """Returns the tax on some of the slates; a subset's name stands behind the metrics'."""

  def measure(name, seed, made):
    del name, seed
    found = tax.estimate(given.setting.evaluated, made, measured, slates=slates)
    return at_shots(found, given)

  names = [f'pick_{outcome}_minus_{FLOOR}' for outcome in measured]
  suffix = f'@{subset}' if subset else ''
  return results.join(
    [
      rows(given, name, keep(own, names, suffix=suffix), [given.shots])
      for name, own in minus(averaged(given.predictions, measure), FLOOR).items()
    ]
  )


def tax_table(given: Evidence, frame: pd.DataFrame, outcome: str, subsets: Sequence[str]) -> Table:
  """Returns the table of the tax on one outcome, by subset of the prompts."""
  metric = f'pick_{outcome}_minus_{FLOOR}'
  columns = {
    (f'{metric}@{subset}' if subset else metric, given.shots): subset or 'all prompts'
    for subset in subsets
  }
  caption = (
    f'tax: {outcome} ({tables.unit_of(metric)}) of best-of-R picks after {given.shots} shots, '
    f'minus that of {FLOOR}'
  )
  return tables.pivot(caption, frame[frame['metric'].isin([m for m, _ in columns])], columns)
