"""Turns configs into objects: the only place that knows every concrete thing by name."""

import ast
import copy
import functools
import hashlib
import inspect
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ml_collections import config_dict

from experiments import kinds
from metapers import learners
from metapers.bench import stored_populations
from metapers.bench.plan import FROM_SPEC, Condition, Entry, Evaluation, Plan, Stream, TextLengths
from metapers.core.meta_learner import MetaLearner
from metapers.core.population import Population
from metapers.data import comparisons
from metapers.populations import np_btl, people, reward_ensemble, toy
from metapers.training.meta_training import Training
from metapers.training.objectives import OBJECTIVES
from metapers.training.optimizers import OPTIMIZERS

EMPTY = inspect.Parameter.empty
Config = Any  # a ConfigDict: what fields it has is not known to a type checker
OF_CONDITION = ('split', 'change_at', 'window')  # how users are evaluated, not who they are
OF_TABLES = ('learners', 'benchmark', 'asking', 'trials')  # which a single run does not have

# Each name: what builds it, and the factories whose keyword arguments it passes on.
POPULATIONS: dict[str, tuple[Callable[..., Population], tuple[Callable, ...]]] = {
  'reward_ensemble': (stored_populations.reward_ensemble, (reward_ensemble.reward_ensemble,)),
  'people': (stored_populations.people, (comparisons.load_comparisons, people.people)),
  'two_types': (toy.two_types, ()),
  'np_btl': (np_btl.np_btl, ()),
}


def is_file(name: str) -> bool:
  """Tells whether a name is of the form 'path/to/file.py:factory'."""
  return '.py:' in name


def source_hash(name: str) -> str:
  """Returns the sha256 of the code of the file that a factory is from; '' for one of the package.

  Comments and line breaks are no code.
  """
  if not is_file(name):
    return ''
  code = ast.unparse(ast.parse(pathlib.Path(name.rpartition(':')[0]).read_bytes()))
  return hashlib.sha256(code.encode()).hexdigest()


def known(kind: str, name: str, table: Mapping[str, Any]) -> Any:
  """Returns what a table has under a name.

  Raises:
    ValueError: for an unknown name; lists the known ones.
  """
  if name not in table:
    raise ValueError(f'unknown {kind} {name!r}; known: {", ".join(table)}')
  return table[name]


@functools.cache
def learner_factory(name: str) -> Callable[..., MetaLearner]:
  """Returns a learner's factory by its name in `LEARNERS`, or from a file."""
  return learners.from_file(name) if is_file(name) else learners.factory(name)


@functools.cache
def population_factory(name: str) -> tuple[Callable[..., Population], tuple[Callable, ...]]:
  """Returns what builds a population, and the factories whose arguments it passes on."""
  if is_file(name):
    return learners.from_file(name), ()
  return known('population', name, POPULATIONS)


def defaults(*factories: Callable) -> dict[str, Any]:
  """Returns the keyword arguments of factories that a config may set, with their defaults.

  A default of None becomes a placeholder that a flag can fill; arrays cannot be configured. So does
  one that several values may take the place of.
  """
  found: dict[str, Any] = {}
  for factory in factories:
    for name, parameter in kinds.parameters(factory).items():
      if parameter.default is EMPTY or 'Mapping' in str(parameter.annotation):
        continue
      if name in found:
        raise TypeError(f'two factories of one config take {name!r}; rename one of them')
      found[name] = kinds.typed(parameter.default, parameter.annotation)
  return found


def section(kind: str, name: str, default: Mapping[str, Any], changes: Mapping[str, Any]) -> Config:
  """Returns `{name, kwargs}` of a config: defaults of the factories, with changes.

  Raises:
    ValueError: for a change of something that the factories do not take.
  """
  unknown = sorted(set(changes) - set(default))
  if unknown:
    raise ValueError(
      f'{kind} {name!r} takes no {", ".join(unknown)}; it takes {", ".join(default)}'
    )
  changed = {key: kinds.replaced(default[key], value) for key, value in changes.items()}
  return config_dict.ConfigDict({'name': name, 'kwargs': dict(default) | changed})


def population_config(name: str, **changes: Any) -> Config:
  """Returns the `population` part of a config.

  Raises:
    ValueError: for an unknown population or option.
  """
  build, factories = population_factory(name)
  return section('population', name, defaults(build, *factories), changes)


def learner_config(name: str, **changes: Any) -> Config:
  """Returns the `learner` part of a config.

  Raises:
    ValueError: for an unknown learner or option.
  """
  factory = learner_factory(name)
  needed = [
    argument
    for argument, parameter in inspect.signature(factory).parameters.items()
    if parameter.default is EMPTY and argument not in FROM_SPEC
  ]
  if needed:
    raise ValueError(f'{name}: give a default to {", ".join(needed)}, for configs to set')
  own = {key: value for key, value in defaults(factory).items() if key not in FROM_SPEC}
  return section('learner', name, own, changes)


def training_config(objective: str = 'mean', optimizer: str = 'adamw') -> Config:
  """Returns the `training` part of a config: fields of `Training`, objective and optimiser named.

  Raises:
    ValueError: for an unknown objective or optimiser.
  """
  made = kinds.of_tuple(Training())
  for kind, name, table in (
    ('objective', objective, OBJECTIVES),
    ('optimizer', optimizer, OPTIMIZERS),
  ):
    made[kind] = section(kind, name, defaults(known(kind, name, table)), {})
  return config_dict.ConfigDict(made)


def training(part: Config) -> Training:
  """Returns `config.training` as an object."""
  given = {name: part[name] for name in Training._fields if name in part}
  objective = known('objective', part.objective.name, OBJECTIVES)
  optimizer = known('optimizer', part.optimizer.name, OPTIMIZERS)
  return Training(
    **given
    | {
      'objective': objective(**part.objective.kwargs),
      'optimizer': functools.partial(optimizer, **part.optimizer.kwargs),
    }
  )


def evaluation(config: Config) -> Evaluation:
  """Returns `config.evaluation` as an object."""
  part = config.evaluation
  given = {name: part[name] for name in Evaluation._fields if name in part}
  mixture = tuple(dict(changes) for changes in part.mixture)
  return Evaluation(**given | {'shots': tuple(part.shots), 'mixture': mixture})


class Described(NamedTuple):
  """Makes the population that a config describes; equal ones are one object, arrays and all.

  population: `config.population` as JSON.
  """

  population: str

  def __call__(self) -> Population:
    return _population(self.population)


def describe(config: Config) -> Described:
  """Returns what makes `config.population` when it is needed."""
  return Described(config.population.to_json(sort_keys=True))


@functools.lru_cache(maxsize=8)
def _population(described: str) -> Population:
  part = json.loads(described)
  build, _ = population_factory(part['name'])
  return build(**part['kwargs'])


def update(part: str, held: Config, changes: Mapping[str, Any]) -> None:
  """Changes fields of one part of a config.

  Raises:
    ValueError: for an unknown field, or a value of another kind than the field holds.
  """
  unknown = sorted(set(changes) - set(held))
  if unknown:
    raise ValueError(f'{part} takes no {", ".join(unknown)}; it takes {", ".join(held)}')
  for name, value in changes.items():
    # Shots are 'uniform' or a number, and of nothing nobody can tell what it is like.
    is_free = held[name] is None or name == 'shots' or () in (held[name], value)
    if not is_free and _is_text(held[name]) != _is_text(value):
      raise ValueError(f'{part}.{name} is like {held[name]!r}, got {value!r}')
  with held.ignore_type():  # one number, or several of it
    for name, value in changes.items():
      if isinstance(value, Mapping) and value.get('name', held[name].name) != held[name].name:
        held[name] = config_dict.ConfigDict(value)  # another objective has options of its own
    held.update(changes)


def _is_text(value: Any) -> bool:
  """Tells text, or several texts, from numbers; one may stand for several and back."""
  return isinstance(value[0] if isinstance(value, tuple | list) and value else value, str)


def single(
  config: Config,
  learner: str,
  *,
  seed: int = 0,
  fold: int | None = None,
  changes: Mapping[str, Any] | None = None,
) -> Config:
  """Returns the config of one training run of a table, or of any learner on a config without one.

  Args:
    config: what all runs share.
    learner: row of the table, or name of a learner.
    seed: of training.
    fold: of people.
    changes: of the population's options, which win over the learner's own.

  Raises:
    ValueError: for an unknown learner or option.
  """
  run = copy.deepcopy(config)
  own = run.get('learners', {}).get(learner, config_dict.ConfigDict()).to_dict()
  unknown = sorted(set(own) - {'name', 'kwargs', 'training', 'population'})
  if unknown:
    raise ValueError(f'{learner!r} changes name, kwargs, training, population; got {unknown}')
  with run.unlocked():
    for name in set(OF_TABLES) & set(run):
      del run[name]
    run.learner = learner_config(own.get('name', learner), **own.get('kwargs', {}))
  update('training', run.training, own.get('training', {}))
  update('population', run.population.kwargs, {**own.get('population', {}), **(changes or {})})
  run.seed = seed
  if fold is not None:
    run.population.kwargs.fold = fold
  return run


def identity(run: Config) -> dict[str, Any]:
  """Returns what makes two runs the same: the config, and the files that factories are from."""
  hashes = {kind: source_hash(run[kind].name) for kind in ('learner', 'population') if kind in run}
  sources = {f'{kind}_source': found for kind, found in hashes.items() if found}
  rows = run.get('benchmark', {}).get('learners', ())
  own = {row: source_hash(name_of(run, row)) for row in rows if is_file(name_of(run, row))}
  hashed = {without_folder(row): found for row, found in own.items()}
  made = {**run.to_dict(), **sources, **({'learner_sources': hashed} if own else {})}
  parts = [made[kind] for kind in ('learner', 'population') if kind in made]
  parts += [made['learners'][row] for row in own if 'name' in made['learners'].get(row, {})]
  for part in parts:  # a file is known by its content: it may be elsewhere, or named from elsewhere
    part['name'] = without_folder(part['name'])
  if rows:
    made['benchmark']['learners'] = tuple(map(without_folder, rows))
  return made


def without_folder(name: str) -> str:
  """Returns a name of a factory, of one from a file without the folder."""
  return pathlib.Path(name).name if is_file(name) else name


def name_of(config: Config, row: str) -> str:
  """Returns the name of the learner of a row of a table."""
  return config.get('learners', {}).get(row, {}).get('name', row)


def entry(config: Config, row: str, changes: Mapping[str, Any] | None = None) -> Entry:
  """Returns the learner of one row of a table, or of a run with `config.learner` itself.

  Args:
    config: of the table, or of a run.
    row: of the table.
    changes: of the options of the population that it is trained on.
  """

  def run(seed: int, fold: int | None) -> Config:
    if 'benchmark' not in config:
      return config
    return single(config, row, seed=seed, fold=fold, changes=changes)

  runs = [run(config.seed, fold) for fold in folds(config)]
  first = runs[0]
  return Entry(
    factory=learner_factory(first.learner.name),
    kwargs=first.learner.kwargs.to_dict(),
    name=first.learner.name,
    training=training(first.training),
    populations=tuple(describe(each) for each in runs),
    identity=lambda seed, fold: identity(run(seed, fold)),
  )


def folds(config: Config) -> tuple[int | None, ...]:
  """Returns the folds of people that a table runs over; (None,) where there are none."""
  return tuple(config.get('benchmark', {}).get('folds', ())) or (None,)


def parts(config: Config, changes: Mapping[str, Any]) -> tuple[Config, ...]:
  """Returns the config with some options of the population changed, once for each fold."""
  made = []
  for fold in folds(config):
    part = copy.deepcopy(config)
    own = {} if fold is None else {'fold': fold}
    update(part.population.name, part.population.kwargs, {**changes, **own})
    made.append(part)
  return tuple(made)


def condition(config: Config, changes: Mapping[str, Any]) -> Condition:
  """Returns one condition of a table: options of the population, and how users are evaluated."""
  options = {name: value for name, value in changes.items() if name not in OF_CONDITION}
  table = config.get('benchmark', {})
  return Condition(
    populations=tuple(describe(part) for part in parts(config, options)),
    changes=dict(changes),
    split=changes.get('split', 'test'),
    stream=Stream(*(changes.get(field, 0) for field in Stream._fields))
    if any(field in changes for field in Stream._fields)
    else None,
    entries={without_folder(row): entry(config, row, options) for row in table.learners}
    if table.get('retrain', False)
    else None,
  )


def plan(config: Config) -> Plan:
  """Returns a table, or a run as a table of one learner; refuses a table with a run's seed."""
  table = config.get('benchmark', {})
  if 'seeds' in table and config.seed:
    raise ValueError(f'a table has seeds, not a seed: give --config.benchmark.seeds={config.seed},')
  rows = table.get('learners', ()) or (config.learner.name,)
  return Plan(
    entries={without_folder(row): entry(config, row) for row in rows},
    conditions=tuple(condition(config, each) for each in table.get('conditions', ({},))),
    populations=tuple(map(describe, parts(config, {}))),
    seeds=tuple(table.get('seeds', (config.seed,))),
    folds=tuple(table.get('folds', ())),
    evaluation=evaluation(config),
    protocol=config.protocol,
    identity=identity(config),
    texts=text_lengths(config),
  )


def text_lengths(config: Config) -> TextLengths | None:
  """Returns lengths and subsets of the texts of a config's store; None where there are none."""
  if config.population.name != 'reward_ensemble':
    return None
  options = config.population.kwargs
  return stored_populations.text_lengths(options.store, options.responses)
