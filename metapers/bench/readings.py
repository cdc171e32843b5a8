"""Results beyond a table of accuracies: calibration, groups of users, and what picks cost."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from metapers.analysis import flips, tax
from metapers.analysis.costs import Costs
from metapers.bench import evidence, for_whom, report, results, tables
from metapers.bench.cells import BySeed
from metapers.bench.evidence import FLOOR, Evidence, Part
from metapers.bench.plan import TextLengths
from metapers.bench.settings import Setting
from metapers.core.population import Population
from metapers.core.task import Truth
from metapers.evaluation import estimates
from metapers.evaluation.estimates import Estimates
from metapers.io.report import Section, Table

CALIBRATION = (
  'accuracy', 'nll', 'confidence', 'ece', 'ece_by_chance', 'brier_calibration',
  'selective_accuracy_80', 'selective_accuracy_50', 'accuracy_worst_decile',
)  # fmt: skip


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
  parts = [
    for_whom.by_user(given),
    calibration(given),
    share_of_gap(given),
    flip_rates(given, extras.flipped),
  ]
  if setting.truth is None:
    parts.append(Part(('The weights of these users are unknown: no groups and no tax.',)))
  else:
    trained_on = extras.trained_on or setting.populations[0]
    parts += [
      for_whom.by_kind(given, setting.truth, trained_on),
      for_whom.by_favourite(given, setting.truth),
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


def calibration(given: Evidence) -> Part:
  """Returns how well confidence and accuracy agree; these rows are in the results already."""
  made = [
    evidence.rows(
      given, name, evidence.at_shots(evidence.keep(found, CALIBRATION), given), [given.shots]
    )
    for name, found in given.overall.items()
  ]
  columns = {
    (metric, given.shots): f'{metric} ({tables.unit_of(metric)})' for metric in CALIBRATION
  }
  note = '\n'.join(f'{metric}: {report.explanation(metric)}' for metric in CALIBRATION)
  caption = f'calibration after {given.shots} shots'
  return Part(tables=(tables.pivot(caption, results.join(made), columns, note=note),))


def share_of_gap(given: Evidence) -> Part:
  """Returns which share of (ceiling - pooled) learners recover, wherever that is wide enough."""
  overall, ceiling = given.overall, given.ceiling
  if not ceiling or FLOOR not in overall:
    return Part()
  metric = f'accuracy_share_of_{ceiling}'
  made = results.join(
    [
      evidence.rows(
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
  note = f'100 % predicts as well as {ceiling}, 0 % as well as {FLOOR}'
  shown = evidence.over_shots(given, caption, made, metric, note=note)
  return Part(tables=shown, frame=made)


def flip_rates(given: Evidence, after: BySeed | None) -> Part:
  """Returns how many predictions change when all labels of the support are flipped."""
  if not after:
    return Part()

  def measure(name, seed, made):
    before = given.predictions[name][seed]
    return {'flip_rate': flips.flip_rate(given.setting.evaluated, before, made)}

  found = evidence.averaged(after, measure)
  made = results.join(
    [evidence.rows(given, name, own, given.setting.shots) for name, own in found.items()]
  )
  caption = 'flip rate: predictions (%) that change when all labels of the support are flipped'
  note = 'who goes by what this user said changes most of them; 0 % is deaf to it'
  shown = evidence.over_shots(given, caption, made, 'flip_rate', note=note)
  return Part(tables=shown, frame=made)


def taxes(given: Evidence, truth: Truth, texts: TextLengths | None) -> Part:
  """Returns what personal picks cost in safety, in the mean reward and in length, by subset."""
  simulation = given.setting.populations[0].simulation
  has_slates = 'slate' in given.setting.evaluated.weights
  if simulation is None or FLOOR not in given.predictions or not has_slates:
    return Part(('No tax: it needs the pooled learner, slates and names of reward models.',))
  measured = tax.outcomes(truth, simulation.reward_models, lengths=texts and texts.lengths)
  missing = [name for name in (tax.SAFETY, 'length') if name not in measured]
  verb = 'are' if len(missing) > 1 else 'is'
  text = (f'No tax in {" and ".join(missing)}, which {verb} not known here.',) if missing else ()
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
  """Returns the tax on some of the slates; a subset's name stands behind the metrics'.

  Intervals are for as many users and prompts as these slates are of.
  """

  def measure(name, seed, made):
    del name, seed
    found = tax.estimate(given.setting.evaluated, made, measured, slates=slates)
    return evidence.at_shots(found, given)

  setting = given.setting
  told = given._replace(
    setting=setting._replace(evaluated=tax.of_slates(setting.evaluated, slates))
  )
  names = [f'pick_{outcome}_minus_{FLOOR}' for outcome in measured]
  suffix = f'@{subset}' if subset else ''
  return results.join(
    [
      evidence.rows(told, name, evidence.keep(own, names, suffix=suffix), [given.shots])
      for name, own in evidence.minus(evidence.averaged(given.predictions, measure), FLOOR).items()
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
  note = 'what picking for this user costs or brings by another measure; below 0 it is lower'
  own = frame[frame['metric'].isin([m for m, _ in columns])]
  return tables.pivot(caption, own, columns, note=note)
