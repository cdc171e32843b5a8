"""What makes runs and a table of objects, which have no name: what they compute.

Programs, shapes and samples of the data are compared, so that an edited learner or another
population of the same name does not go on with what the old one left.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from metapers.bench import plan as plans
from metapers.bench.plan import Entry, Evaluation, MakePopulation, Plan
from metapers.core import files, programs
from metapers.core.meta_learner import MetaLearner
from metapers.core.population import Population
from metapers.core.task import Task
from metapers.core.types import Params
from metapers.training.meta_training import Training

SAMPLED = 8  # users of a split whose episodes stand for all
NUM_GROUPS = 2  # of users, for an objective over groups
NUM_STEPS = 1000  # of every optimizer that is compared, for a run may be extended


def identified(plan: Plan) -> Plan:
  """Returns a table whose learners and population are known by what they compute.

  What a config names is known already. Where `start` or `prepare` of a learner compute on the host,
  their source stands for them: give the row another name after editing only what that calls.
  """
  evaluation = plan.evaluation
  entries = of_entries(plan.entries, plan.populations, evaluation)
  conditions = tuple(
    condition
    if condition.entries is None
    else condition._replace(
      entries=of_entries(condition.entries, condition.populations, evaluation)
    )
    for condition in plan.conditions
  )
  identity = plan.identity or of_table(plan, entries)
  return plan._replace(entries=entries, conditions=conditions, identity=identity)


def of_table(plan: Plan, entries: Mapping[str, Entry]) -> dict[str, Any]:
  """Returns the JSON values that make a table without a config, and what else is shown of it."""
  return {
    'population': {str(n): of_population(make()) for n, make in enumerate(plan.populations)},
    'learners': {row: entry.identity(plan.seeds[0], None) for row, entry in entries.items()},
    'seeds': list(plan.seeds),
    'evaluation': plan.evaluation._asdict(),
  }


def of_entries(
  entries: Mapping[str, Entry], trained_on: Sequence[MakePopulation], evaluation: Evaluation
) -> dict[str, Entry]:
  """Returns the entries of a table, those that are given as objects with what makes their runs."""
  return {
    row: entry
    if entry.identity is not plans.run_identity
    else entry._replace(identity=functools.partial(_known, of_entry(entry, trained_on, evaluation)))
    for row, entry in entries.items()
  }


def _known(made_by: Mapping[str, Any], seed: int, fold: int | None) -> dict[str, Any]:
  return {**made_by, **plans.run_identity(seed, fold)}


def of_entry(
  entry: Entry, trained_on: Sequence[MakePopulation], evaluation: Evaluation
) -> dict[str, Any]:
  """Returns what makes the runs of a row: its users, program, training and choice, as JSON."""
  populations = [make() for make in entry.populations or trained_on]
  learner = plans.build(entry, populations[0].spec)
  return {
    'program': of_learner(learner, train_tasks(populations[0])),
    'from_histories': of_preparation(learner, populations[0]),
    'training': of_training(entry.training, jax.eval_shape(learner.init, jax.random.key(0))),
    'users': {str(number): of_population(each) for number, each in enumerate(populations)},
    'evaluation': {
      'num_validation_users': evaluation.num_validation_users,
      'validation_shots': plans.validation_shots(evaluation, populations[0].spec),
    },
  }


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


def of_preparation(learner: MetaLearner, population: Population) -> str:
  """Returns a hash of what a learner makes of the histories of known users, before and after."""
  key, known = jax.random.key(0), jax.eval_shape(population.histories, population.arrays)
  params = jax.eval_shape(learner.init, key)
  made = b''
  for function in (learner.start, learner.prepare):
    try:
      made += programs.program(function, params, known, key)
    except (jax.errors.JAXTypeError, jax.errors.JAXIndexError):  # it computes on the host
      made += programs.source(function)
  return files.sha256(made)


def of_training(training: Training, params: Params) -> dict[str, Any]:
  """Returns how a learner is trained, as JSON values; functions by their programs."""
  optimizer = training.optimizer(training.learning_rate, NUM_STEPS)
  objective, groups = training.objective, jnp.zeros(SAMPLED, jnp.int32)

  def update(params):
    return optimizer.update(params, optimizer.init(params), params)

  def join(losses):
    return objective.apply(losses, groups, objective.init(NUM_GROUPS))

  return training._asdict() | {
    'optimizer': files.sha256(programs.program(update, params)),
    'objective': files.sha256(programs.program(join, jnp.zeros(SAMPLED, jnp.float32))),
  }


def of_population(population: Population) -> dict[str, str]:
  """Returns the source of a population, and a hash of its sizes and first train users."""
  facts = programs.text(f'{population.spec}{population.content_hash}')
  sample = programs.content(train_tasks(population))
  return {'source': population.source, 'sample': files.sha256(facts + sample)}


def train_tasks(population: Population) -> Task:
  """Returns fixed episodes of train users, an endless stream's too."""
  keys = jax.random.split(jax.random.key(0), SAMPLED)
  return jax.vmap(lambda key: population.sample_episode(population.arrays, key, 'train')[0])(keys)
