"""A tiny table of simulated users, and what an untrained learner predicts for it."""

import functools

import jax
import numpy as np
import pandas as pd

from experiments import build
from experiments.configs import base, quickstart
from metapers.bench import cells, runs, settings, submissions
from metapers.bench import plan as plans

CONDITIONS = ({}, {'split': 'seen'})


def tiny(config):
  """Shortens a config to six users."""
  config.evaluation.shots = (0, 3)
  config.evaluation.num_users = 6
  config.evaluation.num_particles = 20
  config.evaluation.num_resamples = 20
  return config


@functools.cache
def simulated():
  """Returns the config of a pool of nine users, evaluated as unseen and as seen ones."""
  config = tiny(quickstart.get_config())
  kwargs = config.population.kwargs
  kwargs.num_support, kwargs.num_query, kwargs.num_slates, kwargs.num_held_out = 4, 5, 2, 8
  kwargs.num_users = 9
  config.benchmark.conditions = CONDITIONS
  for row, part in config.learners.items():  # known users are those of all of them
    config.learners[row] = {name: value for name, value in part.items() if name != 'population'}
  return config


@functools.cache
def table():
  """Returns the table of `simulated`."""
  return build.plan(simulated())


def people(folder, *, num_folds=2, folds=(0, 1), num_people=15, num_contexts=1, **options):
  """Returns the table of fifteen people, or more, who compared twelve things, in two folds."""
  rng = np.random.default_rng(0)
  items = pd.DataFrame(rng.normal(size=(12, 3)), columns=['a', 'b', 'c'])
  size = 12 // num_contexts
  pairs = [
    (user, *rng.choice(size, 2, replace=False)) for user in range(num_people) for _ in range(9)
  ]
  if num_contexts > 1:
    pairs = [(user, *(size * rng.integers(num_contexts) + np.array(two))) for user, *two in pairs]
    items['context'] = np.arange(12) // size
  compared = pd.DataFrame(pairs, columns=['user_id', 'chosen', 'rejected'])
  items.insert(0, 'item_id', range(12))
  items.to_csv(folder / 'items.csv', index=False)
  compared.to_csv(folder / 'comparisons.csv', index=False)
  kwargs = {'path': str(folder), 'num_support': 4, 'num_query': 5, 'num_folds': num_folds}
  kwargs |= options
  config = base.base(build.population_config('people', **kwargs))
  return build.plan(tiny(base.table(config, {'pooled': {}}, folds=folds)))


def predictions(plan, setting, row='cnp'):
  """Returns what an untrained learner predicts, which is anything but constant."""
  made = []
  for population in setting.populations:
    learner = plans.build(plan.entries[row], population.spec)
    made.append(runs.Run(learner, learner.init(jax.random.key(0)), population, 0))
  return cells.predict(setting, made, chunk_size=plan.evaluation.chunk_size)


def submitted(plan, folder, row='cnp'):
  """Writes an untrained learner's predictions; returns the settings, these, and the files."""
  made = [settings.make_setting(plan, condition) for condition in plan.conditions]
  predicted = {setting.name: predictions(plan, setting, row) for setting in made}
  targets = {
    setting.name: submissions.targets_of(setting.tasks, setting.truth, setting.shots)
    for setting in made
  }
  return made, predicted, submissions.write_submission(folder, predicted, targets)


def quiet(text):
  del text
