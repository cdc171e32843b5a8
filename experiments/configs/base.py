"""What every config shares: a document of one run, or of one table of runs."""

from collections.abc import Mapping
from typing import Any

from ml_collections import config_dict

from experiments import build
from experiments.build import Config
from metapers.bench import protocols

OWN = ('name', 'kwargs', 'training', 'population')  # what a learner of a table may have


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


def base(population: Config) -> Config:
  """Makes what all runs of a config share; `single` adds a learner, `table` several."""
  config: Config = config_dict.ConfigDict()
  config.protocol = 'metapers'
  config.seed = 0
  config.population = population
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
    'seen_prior': False,
    'flips': False,
  }
  return config


def table(
  config: Config,
  learners: Mapping[str, Mapping[str, Any]],
  *,
  seeds: tuple[int, ...] = (0,),
  folds: tuple[int, ...] = (),
  conditions: tuple[Mapping[str, Any], ...] = ({},),
  retrain: bool = False,
) -> Config:
  """Adds what `experiments.benchmark` runs over.

  Args:
    config: what all runs share.
    learners: name -> {'kwargs': ..., 'training': ..., 'population': ...}: that learner's own
      values, which win over the shared ones. 'name' is the learner's own, where it differs from
      that of its row.
    seeds: of training.
    folds: of people; every person is unseen in one of them. Empty: the population has no folds.
    conditions: changes of the population's options under which all learners are evaluated.
    retrain: train every learner anew under each condition, in place of once.
  """
  config.learners = {name: dict(changes) for name, changes in learners.items()}
  config.benchmark = {
    'learners': tuple(learners),
    'seeds': seeds,
    'folds': folds,
    'conditions': tuple(dict(condition) for condition in conditions),
    'retrain': retrain,
  }
  return config


def of_protocol(
  name: str,
  learners: Mapping[str, Mapping[str, Any]],
  argument: str | None,
  *,
  in_quick: tuple[str, ...] = ('cnp', 'bayes_head', 'pooled'),
) -> Config:
  """Makes the table of a protocol, or with `learner=NAME` in the argument one run of it.

  Args:
    name: a key of `protocols.PROTOCOLS`.
    learners: as in `table`.
    argument: what follows the colon of `--config`.
    in_quick: the learners of the quick variant.
  """
  given = parse(argument, quick=False, learner='')
  if given['quick'] and not given['learner']:
    learners = {name: learners[name] for name in in_quick}
  protocol = protocols.PROTOCOLS[name]
  options = {**protocol.options, **(protocol.quick if given['quick'] else {})}
  config = base(build.population_config(protocol.population, **options))
  config.protocol = name
  update('training', config.training, protocol.training)
  update('evaluation', config.evaluation, protocol.evaluation)
  config.evaluation.shots = protocol.shots
  config.evaluation.num_users = protocol.num_users
  conditions = protocol.quick_conditions if given['quick'] else protocol.conditions
  config = table(config, learners, conditions=conditions, retrain=protocol.retrain)
  return chosen(quick(config) if given['quick'] else config, given['learner'])


def six(*, is_pool: bool = False) -> dict[str, dict[str, Any]]:
  """Returns the six learners that a protocol is run with, as tuned on the scores track.

  Args:
    is_pool: the population has known users already; else low_rank is given 2,000.
  """
  pool: dict[str, Any] = {} if is_pool else {'population': {'num_users': 2000}}
  return {
    'cnp': {'training': {'num_steps': 8000}},
    'bayes_head': {},
    'maml': {},
    'low_rank': pool,
    'per_user': {},
    'pooled': {'training': {'num_steps': 1000}},
  }


def single(
  config: Config,
  learner: str,
  *,
  seed: int = 0,
  fold: int | None = None,
  changes: Mapping[str, Any] | None = None,
) -> Config:
  """Makes the config of one training run of a table, or of any learner on a config without one.

  Args:
    config: what all runs share.
    learner: row of the table, or name of a learner.
    seed: of training.
    fold: of people.
    changes: of the population's options, which win over the learner's own.

  Raises:
    ValueError: for an unknown learner or option.
  """
  run = config.copy_and_resolve_references()
  own = run.get('learners', {}).get(learner, config_dict.ConfigDict())
  unknown = sorted(set(own) - {'name', 'kwargs', 'training', 'population'})
  if unknown:
    raise ValueError(
      f'changes of {learner!r} are name, kwargs, training, population; got {unknown}'
    )
  with run.unlocked():
    for name in ('learners', 'benchmark'):
      if name in run:
        del run[name]
    run.learner = build.learner_config(own.get('name', learner), **own.get('kwargs', {}))
  update('training', run.training, own.get('training', {}))
  update('population', run.population.kwargs, {**own.get('population', {}), **(changes or {})})
  run.seed = seed
  if fold is not None:
    run.population.kwargs.fold = fold
  return run


def chosen(config: Config, learner: str) -> Config:
  """Returns the table itself, or with a learner's name the config of that learner's run."""
  return single(config, learner) if learner else config


def update(part: str, fields: Config, changes: Mapping[str, Any]) -> None:
  """Changes fields of one part of a config.

  Raises:
    ValueError: for an unknown field, or a value of another kind than the field holds.
  """
  unknown = sorted(set(changes) - set(fields))
  if unknown:
    raise ValueError(f'{part} takes no {", ".join(unknown)}; it takes {", ".join(fields)}')
  for name, value in changes.items():
    is_free = fields[name] is None or name == 'shots'  # which are 'uniform' or a number
    if not is_free and is_text(fields[name]) != is_text(value):
      raise ValueError(f'{part}.{name} is like {fields[name]!r}, got {value!r}')
  with fields.ignore_type():  # one number, or several of it
    fields.update(changes)


def is_text(value: Any) -> bool:
  """Tells text, or several texts, from numbers; one may stand for several and back."""
  return isinstance(value[0] if isinstance(value, tuple | list) and value else value, str)


def quick(config: Config) -> Config:
  """Shortens a table to minutes: fewer steps, users and particles, and the first fold only."""
  config.training.num_steps = 300
  config.training.evaluate_every = 150
  for changes in config.learners.values():
    if 'num_steps' in changes.get('training', {}):
      del changes.training['num_steps']
  config.benchmark.folds = config.benchmark.folds[:1]
  most = config.population.kwargs.get('num_support', max(config.evaluation.shots))
  config.evaluation.shots = tuple(k for k in config.evaluation.shots if k <= most)
  config.evaluation.num_users = min(100, config.evaluation.num_users)
  config.evaluation.num_validation_users = 50
  config.evaluation.num_particles = 200
  return config
