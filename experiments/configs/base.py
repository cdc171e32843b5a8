"""What every config shares: a document of one run, or of one table of runs."""

from collections.abc import Mapping
from typing import Any

from ml_collections import config_dict

from experiments import build
from experiments.build import Config


def parse(argument: str | None, **known: Any) -> dict[str, Any]:
  """Reads what follows `--config=X.py:`, such as `quick,learner=cnp`.

  Args:
    argument: comma-separated `flag` or `name=value`.
    **known: names with their defaults; a bool takes no value.

  Raises:
    ValueError: for a name that is not known; lists the known ones.
  """
  chosen = dict(known)
  for part in filter(None, (argument or '').split(',')):
    name, equals, value = part.partition('=')
    if name not in known or bool(equals) == isinstance(known[name], bool):
      forms = [key if isinstance(default, bool) else f'{key}=...' for key, default in known.items()]
      raise ValueError(f'unknown config argument {part!r}; known: {", ".join(forms)}')
    chosen[name] = value if equals else True
  return chosen


def base(population: Config, learner: Config) -> Config:
  """Makes the config of one training run."""
  config: Config = config_dict.ConfigDict()
  config.protocol = 'metapers'
  config.seed = 0
  config.population = population
  config.learner = learner
  config.training = {
    'num_steps': 2000,
    'batch_size': 64,
    'chunk_size': 32,
    'shots': 'uniform',
    'learning_rate': 3e-3,
    'weight_decay': 0.0,
    'clip_norm': 1.0,
    'steps_per_call': 100,
    'evaluate_every': 500,
    'keep_checkpoints': 2,
  }
  config.evaluation = {
    'shots': (0, 1, 2, 4, 8, 16),
    'num_users': 1000,
    'num_validation_users': 200,
    'chunk_size': 64,
    'num_resamples': 1000,
    'num_particles': 1024,
    'rival': 'openai/gpt-4o',
    'mixture': (),
  }
  return config


def table(
  config: Config,
  learners: Mapping[str, Mapping[str, Any]],
  *,
  seeds: tuple[int, ...] = (0,),
  folds: tuple[int, ...] = (),
  conditions: tuple[Mapping[str, Any], ...] = ({},),
) -> Config:
  """Adds what `experiments.benchmark` runs over, and applies the chosen learner's own changes.

  Args:
    config: of a single run; its learner is the one that `experiments.train` takes.
    learners: name -> {'kwargs': ..., 'training': ..., 'population': ...}: changes for that learner.
    seeds: of training.
    folds: of people; every person is unseen in one of them. Empty: the population has no folds.
    conditions: changes of the population's options under which all learners are evaluated.
  """
  config.learners = {name: dict(changes) for name, changes in learners.items()}
  config.benchmark = {
    'learners': tuple(learners),
    'seeds': seeds,
    'folds': folds,
    'conditions': tuple(dict(condition) for condition in conditions),
  }
  return config


def single(config: Config, learner: str, *, seed: int, fold: int | None = None) -> Config:
  """Makes the config of one training run out of a table's: one learner, one seed, one fold.

  Raises:
    ValueError: for an unknown learner or option.
  """
  run = config.copy_and_resolve_references()
  changes = run.get('learners', {}).get(learner, config_dict.ConfigDict())
  unknown = sorted(set(changes) - {'kwargs', 'training', 'population'})
  if unknown:
    raise ValueError(f'changes of {learner!r} are kwargs, training, population; got {unknown}')
  with run.unlocked():
    for name in ('learners', 'benchmark'):
      if name in run:
        del run[name]
    run.learner = build.learner_config(learner, **changes.get('kwargs', {}))
  run.training.update(changes.get('training', {}))
  run.population.kwargs.update(changes.get('population', {}))
  run.seed = seed
  if fold is not None:
    run.population.kwargs.fold = fold
  return run


def as_single(config: Config) -> Config:
  """Makes the config of a single run out of any config: a table's gives its chosen learner's."""
  if 'benchmark' not in config:
    return config
  folds = config.benchmark.folds
  return single(config, config.learner.name, seed=config.seed, fold=folds[0] if folds else None)


def quick(config: Config) -> Config:
  """Shortens a table to minutes: fewer steps, users and particles, and the first fold only."""
  config.training.num_steps = 300
  config.training.evaluate_every = 150
  for changes in config.learners.values():
    if 'training' in changes:
      del changes['training']
  config.benchmark.folds = config.benchmark.folds[:1]
  config.evaluation.num_users = 100
  config.evaluation.num_validation_users = 50
  config.evaluation.num_particles = 200
  return config
