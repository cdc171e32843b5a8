"""What makes a table of objects: a workdir holds results of one table, and objects have no name.

Programs, shapes and samples of the data are compared, so that an edited learner or another
population of the same name does not go on with what the old one left.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from metapers.bench import plan as plans
from metapers.bench.plan import Condition, Entry, Evaluation, MakePopulation
from metapers.core import files, programs
from metapers.core.meta_learner import MetaLearner
from metapers.core.population import Population
from metapers.core.task import Task
from metapers.core.types import Params
from metapers.evaluation import adaptation
from metapers.training.meta_training import Training

SAMPLED = 8  # users of a split whose episodes stand for all
NUM_STEPS = 1000  # of every optimizer that is compared, for a run may be extended


def of_table(
  entries: Mapping[str, Entry],
  conditions: Sequence[Condition],
  seeds: Sequence[int],
  evaluation: Evaluation,
) -> dict[str, Any]:
  """Returns the JSON values that make a table of learners that are given as objects.

  `start` and `prepare` of a learner may run on the host, so that their programs are not compared:
  give another workdir after editing only them.
  """
  return {
    'learners': of_entries(entries, conditions[0].populations),
    'conditions': {each.name: of_condition(each) for each in conditions},
    'seeds': list(seeds),
    'evaluation': evaluation._asdict(),
  }


def of_condition(condition: Condition) -> dict[str, Any]:
  """Returns what makes a condition: its users, how they are evaluated, and learners of its own."""
  return {
    'users': [of_population(make(), condition.split) for make in condition.populations],
    'stream': condition.stream and condition.stream._asdict(),
    'learners': of_entries(condition.entries or {}, condition.populations),
  }


def of_entries(
  entries: Mapping[str, Entry], trained_on: Sequence[MakePopulation]
) -> dict[str, dict[str, Any]]:
  """Returns what makes each row: whom it is trained on, its program and its training."""
  found = {}
  for row, entry in entries.items():
    populations = [make() for make in entry.populations or trained_on]
    learner = plans.build(entry, populations[0].spec)
    found[row] = {
      'program': of_learner(learner, train_tasks(populations[0])),
      'training': of_training(entry.training, jax.eval_shape(learner.init, jax.random.key(0))),
      'users': [of_population(each, 'train') for each in populations],
    }
  return found


def of_learner(learner: MetaLearner, tasks: Task) -> str:
  """Returns a hash of the programs of a learner: parameters, losses, adaptation and prediction."""
  key, episode = jax.random.key(0), jax.tree.map(lambda x: x[0], tasks)

  def run(params, tasks, episode, key):
    given = episode.context, key
    state, candidates = learner.adapt(params, episode.support, *given), episode.query.candidates
    of_state = learner.score, learner.predict, learner.sample
    made = [learner.loss(params, episode, key), *(f(params, state, candidates) for f in of_state)]
    if learner.update:
      comparison = jax.tree.map(lambda x: x[:1], episode.support)
      made.append(learner.update(params, state, comparison, *given))
    if learner.batch_loss:
      made.append(learner.batch_loss(params, tasks, jax.random.split(key, SAMPLED)))
    return made

  given = jax.eval_shape(learner.init, key), tasks, episode, key
  return files.sha256(programs.program(learner.init, key) + programs.program(run, *given))


def of_training(training: Training, params: Params) -> dict[str, Any]:
  """Returns how a learner is trained, as JSON values; functions by their programs."""
  optimizer = training.optimizer(training.learning_rate, NUM_STEPS)
  objective, groups = training.objective, jnp.zeros(SAMPLED, jnp.int32)

  def update(params):
    return optimizer.update(params, optimizer.init(params), params)

  def join(losses):
    return objective.apply(losses, groups, objective.init())

  return training._asdict() | {
    'optimizer': files.sha256(programs.program(update, params)),
    'objective': files.sha256(programs.program(join, jnp.zeros(SAMPLED, jnp.float32))),
  }


def of_population(population: Population, split: str) -> dict[str, str]:
  """Returns the source of a population, and a hash of its sizes and first users of a split."""
  most = population.spec.num_held_out.get(split, 0)
  if split == 'train':
    users = train_tasks(population)
  else:
    users = adaptation.episodes(population, split=split, num_users=min(SAMPLED, most))
  facts = f'{population.spec}{population.content_hash}'
  return {
    'source': population.source,
    'sample': files.sha256(programs.text(facts) + programs.content(users)),
  }


def train_tasks(population: Population) -> Task:
  """Returns fixed episodes of train users, an endless stream's too."""
  keys = jax.random.split(jax.random.key(0), SAMPLED)
  return jax.vmap(lambda key: population.sample_episode(population.arrays, key, 'train')[0])(keys)
