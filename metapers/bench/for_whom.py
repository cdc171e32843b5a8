"""For whom a learner is better than `pooled`: user by user, and by groups of users."""

from collections.abc import Sequence

import jax
import numpy as np
import pandas as pd

from metapers.analysis import disagreement, distances, gains, groups
from metapers.analysis.groups import EXTREMES, Groups
from metapers.bench import evidence, results, tables
from metapers.bench.evidence import FLOOR, Evidence, Part
from metapers.core import user_groups
from metapers.core.population import Population
from metapers.core.task import Truth
from metapers.core.types import Float
from metapers.evaluation import estimates, intervals
from metapers.evaluation.estimates import Estimates
from metapers.io.report import Table

GROUP_METRICS = ('accuracy', 'nll')
EXTREME_HEADERS = ('worst group', 'best group', 'gap (points)')
WORSE, BETTER = f'users_worse_than_{FLOOR}', f'users_better_than_{FLOOR}'


def by_user(given: Evidence) -> Part:
  """Returns for which share of the users each learner is worse than `pooled`, and better."""
  if FLOOR not in given.predictions:
    return Part()
  evaluated = given.setting.evaluated
  accuracy = {
    name: [gains.user_accuracy(evaluated, one) for one in own.values()]
    for name, own in given.predictions.items()
  }
  parts = []
  for name, own in accuracy.items():
    if name != FLOOR and name not in tables.REFERENCES:
      shares = [gains.shares(evaluated, *pair) for pair in seed_pairs(own, accuracy[FLOOR])]
      found = estimates.average([dict(zip((WORSE, BETTER), each)) for each in shares], name)
      parts.append(evidence.rows(given, name, found, given.setting.shots))
  if not parts:
    return Part()
  made = results.join(parts)
  note = (
    'of all users, those whose own accuracy is lower (higher) than with pooled; each is measured '
    'on few comparisons, so that some are worse by chance'
  )
  columns = {(WORSE, count): f'worse after {count}' for count in given.setting.shots}
  columns[BETTER, given.shots] = f'better after {given.shots}'
  caption = f'users (%) for whom a learner is worse, and better, than {FLOOR}, by shots'
  return Part(tables=(tables.pivot(caption, made, columns, note=note),), frame=made)


def seed_pairs(
  first: Sequence[np.ndarray], second: Sequence[np.ndarray]
) -> list[tuple[np.ndarray, np.ndarray]]:
  """Returns the seeds of two rows side by side; those of the row with fewer come again."""
  size = max(len(first), len(second))
  return [(first[i % len(first)], second[i % len(second)]) for i in range(size)]


def by_kind(given: Evidence, truth: Truth, trained_on: Population) -> Part:
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
  described = evidence.rows(given, '', found, [0]).assign(shots='')
  return Part(
    distances.in_words(evaluated, found, nearest, len(contrasts.prompts)),
    tuple(table for part in parts for table in part.tables),
    results.join([described, *(part.frame for part in parts)]),
  )


def by_favourite(given: Evidence, truth: Truth) -> Part:
  """Returns results of the groups of users served worst and best, by the reward model they favour.

  Args:
    given: of simulated users.
    truth: of the same.
  """
  num_groups = user_groups.num_groups(given.setting.populations[0])
  if not num_groups:
    return Part()
  labels = tuple(map(str, range(num_groups)))
  divided = Groups('favourite', labels, np.asarray(user_groups.favourite(truth.weights)))

  def measure(name, seed, made):
    del name, seed
    return groups.extremes(given.setting.evaluated, made, divided, row=given.at)

  found = evidence.averaged(given.predictions, measure)
  if not all(found.values()):
    return Part()
  size = groups.least_measured(given.setting.evaluated, divided)
  made = results.join(
    [
      rows_of_size(given, name, {metric: samples}, size)
      for name, own in found.items()
      for metric, samples in own.items()
    ]
  )
  columns = {(metric, given.shots): header for metric, header in zip(EXTREMES, EXTREME_HEADERS)}
  caption = f'worst and best group (%) after {given.shots} shots, by the reward model users favour'
  note = 'which group is worst and which best is told by every other user, and measured on the rest'
  return Part(tables=(tables.pivot(caption, made, columns, note=note),), frame=made)


def by_group(given: Evidence, divided: Groups) -> Part:
  """Returns results by group of users: accuracy, NLL, and what is gained over `pooled`."""

  def measure(name, seed, made):
    del name, seed
    found = groups.estimate(given.setting.evaluated, made, divided, row=given.at)
    return evidence.keep(found, GROUP_METRICS)

  found = evidence.averaged(given.predictions, measure)
  known = [reference for reference in (FLOOR, given.ceiling) if reference]
  differences = [evidence.minus(found, reference) for reference in known]
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
  for group, size in enumerate(groups.sizes(divided, given.setting.evaluated).tolist()):
    for metric, value in found.items():
      own = {f'{metric}@{divided.name}:{group + 1}': value[:, group : group + 1]}
      parts.append(rows_of_size(given, learner, own, size))
  return results.join(parts)


def rows_of_size(given: Evidence, learner: str, found: Estimates, size: int) -> pd.DataFrame:
  """Returns one estimate [J, 1] that is measured on `size` of the users.

  `groups.estimate` has spread it for all users; where none differ, `size` says how sure it is.
  """
  (samples,) = found.values()
  told = size if is_flat(samples) else None
  made = evidence.rows(given, learner, found, [given.shots], num_users=told)
  return made.assign(num_users=size)


def is_flat(samples: Float[np.ndarray, 'J 1']) -> bool:
  """Returns whether no resample differs from the sample; those that are NaN are passed over."""
  return bool(np.nan_to_num(np.abs(samples - samples[0])).max() < intervals.ROUNDING)


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
  note = f'groups of about one size, and on the right what is gained over {FLOOR} in each'
  return tables.pivot(caption, frame, columns, note=note)
