"""For whom: how new the users are, how much they disagree, and results by group of them."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments import reading_tables
from experiments.reading_tables import FLOOR, Part, Subject
from metapers.analysis import disagreement, groups
from metapers.analysis.disagreement import Pairs
from metapers.analysis.groups import Groups
from metapers.bench.results import Row
from metapers.core.population import Population
from metapers.core.task import Truth
from metapers.core.types import Array, Float
from metapers.evaluation import bootstrap
from metapers.evaluation.estimates import Estimates
from metapers.io.report import Table

SAMPLE_OF_STREAM = 1000  # seen users to be near to, where the stream of them has no end
NUM_PAIRS = 2000
DECIMALS = 3  # of weights: at small α most users are further from 0 by rounding than by taste
METRICS = ('accuracy', 'nll')
DISTANCE = 'share of random comparisons on which the nearest of {:,} seen users disagrees'
L1 = 'L1 distance of the weights to those of the nearest of {:,} seen users, at most 2'


def read(subject: Subject, truth: Truth, trained_on: Population) -> Part:
  """Reads how new users are, and results by distance to the seen ones and by entropy of weights.

  Args:
    subject: of simulated users.
    truth: of the same.
    trained_on: whose train users are the seen ones.
  """
  weights, seen = truth.weights, seen_weights(trained_on)
  pairs = random_pairs(subject)
  contrasts = jnp.asarray(pairs.contrasts)
  nearest = np.asarray(disagreement.nearest_disagreement(weights, seen, contrasts))
  l1 = np.asarray(disagreement.nearest_l1(weights, seen))
  entropy = groups.entropy(np.asarray(weights))
  found = population(subject, truth, pairs, nearest, l1)
  divided = (
    (groups.by_size('nearest_disagreement', nearest, in_percent=True), DISTANCE.format(len(seen))),
    (groups.by_size('nearest_l1', l1.round(DECIMALS)), L1.format(len(seen))),
    (groups.by_size('entropy', entropy.round(DECIMALS)), 'entropy of the weights, in nats'),
  )
  parts = [by_group(subject, group, title) for group, title in divided]
  described = [row._replace(shots='') for row in reading_tables.rows(subject, '', found, [0])]
  return Part(
    sentences(found, len(seen), len(nearest)),
    tuple(table for part in parts for table in part.tables),
    (*described, *(row for part in parts for row in part.rows)),
  )


def seen_weights(trained_on: Population) -> Float[Array, 'U B']:
  """Returns the weights of the users of training, or of a sample of an endless stream."""
  return trained_on.arrays.users['train'].weights[: trained_on.spec.num_users or SAMPLE_OF_STREAM]


def random_pairs(subject: Subject) -> Pairs:
  """Draws random pairs of responses to the prompts on which the users are judged."""
  arrays, evaluated = subject.setting.populations[0].arrays, subject.setting.judge
  return disagreement.draw_pairs(
    jax.random.key(0), arrays.rewards, arrays.mask, evaluated.draws.ids, num_pairs=NUM_PAIRS
  )


def population(
  subject: Subject,
  truth: Truth,
  pairs: Pairs,
  nearest: Float[np.ndarray, 'T'],
  l1: Float[np.ndarray, 'T'],
) -> Estimates:
  """Estimates how much users differ from one another and from those seen: name -> [J, 1]."""
  draws = subject.setting.evaluated.draws
  judged = disagreement.judged_pairs(subject.setting.tasks, truth, num_pairs=NUM_PAIRS)
  found = {
    'disagreement': disagreement.rate(draws, truth.weights, pairs),
    'disagreement_judged': disagreement.rate(draws, truth.weights, judged),
    'contested': disagreement.contested(draws, truth.weights, pairs),
    'contested_judged': disagreement.contested(draws, truth.weights, judged),
    'nearest_disagreement_mean': groups.user_mean(draws, nearest),
    'nearest_disagreement_median': groups.user_median(draws, nearest),
    'nearest_disagreement_none': groups.user_mean(draws, (nearest == 0).astype(np.float32)),
    'nearest_l1_median': groups.user_median(draws, l1),
  }
  return {name: samples[:, None] for name, samples in found.items()}


def sentences(found: Estimates, num_seen: int, num_users: int) -> tuple[str, ...]:
  """Says in words what `population` found."""
  told = {name: percent(samples) for name, samples in found.items()}
  l1 = float(found['nearest_l1_median'][0, 0])
  return (
    f'Two of the users disagree on {told["disagreement"]} of random comparisons of the judged '
    f'prompts, and on {told["disagreement_judged"]} of those that are judged; some two of the '
    f'{num_users} disagree on {told["contested"]} and {told["contested_judged"]}.',
    f'The nearest of {num_seen:,} seen users disagrees with a judged one on '
    f'{told["nearest_disagreement_median"]} of random comparisons (median; mean '
    f'{told["nearest_disagreement_mean"]}); with {told["nearest_disagreement_none"]} of the users '
    f'on none of {NUM_PAIRS:,}. Median L1 distance of the weights: {l1:.3g}.',
  )


def percent(samples: Float[np.ndarray, 'J 1']) -> str:
  """Writes a share with its interval."""
  value, low, high = (100 * float(x) for x in bootstrap.interval(samples)[:, 0])
  return f'{value:.1f} % [{low:.1f}, {high:.1f}]'


def by_group(subject: Subject, divided: Groups, title: str) -> Part:
  """Reads results by group of users: accuracy, NLL, and what is gained over `pooled`."""
  evaluated = subject.setting.judge

  def measure(name, seed, made):
    del name, seed
    found = groups.estimate(evaluated, made, divided, row=subject.at)
    return reading_tables.keep(found, METRICS)

  found = reading_tables.averaged(subject.predictions, measure)
  differences = [
    reading_tables.minus(found, reference) for reference in (FLOOR, subject.ceiling) if reference
  ]
  made = [
    row
    for several in (found, *differences)
    for name, own in several.items()
    for row in group_rows(subject, name, own, divided)
  ]
  return Part(tables=(group_table(subject, made, divided, title),), rows=tuple(made))


def group_rows(subject: Subject, learner: str, found: Estimates, divided: Groups) -> list[Row]:
  """Labels estimates [J, G] of one learner: `{metric}@{groups}:{number}`, numbered from 1."""
  made: list[Row] = []
  for group, size in enumerate(groups.sizes(divided, subject.setting.evaluated)):
    samples = {
      f'{metric}@{divided.name}:{group + 1}': value[:, group : group + 1]
      for metric, value in found.items()
    }
    made += reading_tables.rows(subject, learner, samples, [subject.shots], num_users=int(size))
  return made


def group_table(subject: Subject, made: list[Row], divided: Groups, title: str) -> Table:
  """Lays accuracy by group out, and what is gained over `pooled`."""
  counts = groups.sizes(divided, subject.setting.evaluated)
  difference = f'accuracy_minus_{FLOOR}'
  columns = {
    (f'{metric}@{divided.name}:{group + 1}', subject.shots): header.format(label, counts[group])
    for metric, header in (('accuracy', '{} ({} users)'), (difference, f'{{}}: − {FLOOR}'))
    for group, label in enumerate(divided.labels)
    if metric == 'accuracy' or FLOOR in subject.predictions
  }
  caption = f'accuracy (%) ± half a 95 % interval after {subject.shots} shots, by {title}'
  return reading_tables.pivot(caption, made, columns)
