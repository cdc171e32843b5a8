"""What makes a table of objects: a workdir holds results of one table, and objects have no name.

Programs, shapes and samples of the data are compared, so that an edited learner or another
population of the same name does not go on with what the old one left.
"""

import functools
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from metapers.bench import plan as plans
from metapers.bench.plan import Condition, Entry, Evaluation
from metapers.core import files
from metapers.core.meta_learner import MetaLearner
from metapers.core.population import Population
from metapers.core.task import Task
from metapers.core.types import PyTree
from metapers.evaluation import adaptation
from metapers.training.meta_training import Training

SAMPLED = 8  # users of a split whose episodes stand for all
ADDRESS = re.compile(r'0x[0-9a-f]+')  # of a function, as Python prints it: not of its program


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
  made = [[make() for make in condition.populations] for condition in conditions]
  task = jax.tree.map(lambda x: x[0], train_tasks(made[0][0]))
  return {
    'learners': {row: of_entry(entry, made[0][0], task) for row, entry in entries.items()},
    'conditions': {
      condition.name: [of_population(each, condition.split) for each in populations]
      for condition, populations in zip(conditions, made, strict=True)
    },
    'seeds': list(seeds),
    'evaluation': evaluation._asdict(),
  }


def of_entry(entry: Entry, population: Population, task: Task) -> dict[str, Any]:
  """Returns what makes one row: its program and its training."""
  learner = plans.build(entry, population.spec)
  return {'program': of_learner(learner, task), 'training': of_training(entry.training)}


def of_learner(learner: MetaLearner, task: Task) -> str:
  """Returns a hash of the programs of a learner: parameters, loss, adaptation and prediction."""

  def run(params, task, key):
    user_state = learner.adapt(params, task.support, task.context, key)
    predicted = learner.predict(params, user_state, task.query.candidates)
    return learner.loss(params, task, key), predicted

  key = jax.random.key(0)
  params = jax.eval_shape(learner.init, key)
  initial = jax.make_jaxpr(learner.init)(key)
  program = jax.make_jaxpr(run)(params, task, key)
  text = ADDRESS.sub('', f'{params}{initial}{program}')
  return files.sha256(text.encode() + _bytes((initial.consts, program.consts)))


def of_training(training: Training) -> dict[str, Any]:
  """Returns how a learner is trained, as JSON values."""
  functions = {
    'optimizer': describe(training.optimizer),
    'objective': describe(training.objective.apply),
  }
  return training._asdict() | functions


def of_population(population: Population, split: str) -> dict[str, str]:
  """Returns the source of a population, and a hash of its sizes and its first users."""
  size = min(SAMPLED, population.spec.num_held_out.get(split, SAMPLED))
  users = train_tasks(population), adaptation.episodes(population, split=split, num_users=size)
  facts = ADDRESS.sub('', f'{population.spec}{population.content_hash}')
  return {
    'source': population.source,
    'sample': files.sha256(facts.encode() + _bytes(users)),
  }


def train_tasks(population: Population) -> Task:
  """Returns fixed episodes of train users, an endless stream's too."""
  keys = jax.random.split(jax.random.key(0), SAMPLED)
  return jax.vmap(lambda key: population.sample_episode(population.arrays, key, 'train')[0])(keys)


def describe(function: Any) -> str:
  """Returns a function by name, with the values that it is bound to or closes over."""
  if isinstance(function, functools.partial):
    return f'{describe(function.func)}{function.args}{function.keywords}'
  name = f'{function.__module__}:{function.__qualname__}'
  bound = inspect.getclosurevars(function).nonlocals
  return ADDRESS.sub('', f'{name}{bound or ""}')


def _bytes(tree: PyTree) -> bytes:
  leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
  return b''.join(f'{leaf.dtype}{leaf.shape}'.encode() + leaf.tobytes() for leaf in leaves)
