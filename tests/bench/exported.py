"""A tiny table of simulated users, and what an untrained learner predicts for it."""

import functools

import jax

from experiments import build
from experiments.configs import quickstart
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
  return config


@functools.cache
def table():
  """Returns the table of `simulated`."""
  return build.plan(simulated())


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
