"""Turns names in a config into objects: the only place that knows every concrete thing by name."""

import functools
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

import optax
from ml_collections import config_dict

from metapers import learners
from metapers.core.meta_learner import MetaLearner
from metapers.core.population import Population, Spec
from metapers.core.tables import Histories
from metapers.data import comparisons, feature_store, synthetic
from metapers.populations import np_btl, toy
from metapers.populations import people as people_population
from metapers.populations import reward_ensemble as ensemble


def reward_ensemble(
  *, store: str = 'synthetic', feature_r2: float | None = None, **kwargs: Any
) -> Population:
  """Builds PersonalLLM's users on the synthetic store, or on a feature store's folder.

  Args:
    store: 'synthetic', or the folder of a store.
    feature_r2: of the synthetic store's features, 0.5 if not told.
    **kwargs: of `populations.reward_ensemble`.

  Raises:
    ValueError: for a feature_r2 of a folder, whose features are what they are.
  """
  if store != 'synthetic' and feature_r2 is not None:
    raise ValueError(f'feature_r2={feature_r2} is of the synthetic store; leave it out of {store}')
  if store == 'synthetic':
    table = synthetic.synthetic_store(feature_r2=feature_r2 or 0.5)
  else:
    table = feature_store.open_store(store)
  return ensemble.reward_ensemble(table, **kwargs)


def people(*, path: str = '', **kwargs: Any) -> Population:
  """Builds a population of real people from a folder of tables.

  Args:
    path: the folder; there is no default data.
    **kwargs: of `data.load_comparisons` and of `populations.people`.
  """
  reads = inspect.signature(comparisons.load_comparisons).parameters
  rest = {name: value for name, value in kwargs.items() if name not in reads}
  return people_population.people(load_histories(path, **kwargs), **rest)


def load_histories(path: str, **kwargs: Any) -> Histories:
  """Reads the histories of real people.

  Args:
    path: the folder of their tables.
    **kwargs: of `data.load_comparisons`; others are left alone.

  Raises:
    ValueError: without a folder.
  """
  if not path:
    raise ValueError('real people need a folder: give --config.population.kwargs.path=FOLDER')
  reads = inspect.signature(comparisons.load_comparisons).parameters
  loading = {name: value for name, value in kwargs.items() if name in reads}
  return comparisons.load_comparisons(path, **loading)


# A ConfigDict: what fields it has is not known to a type checker.
Config = Any

# Each name: what builds it, and the factories whose keyword arguments it passes on.
POPULATIONS: dict[str, tuple[Callable[..., Population], tuple[Callable, ...]]] = {
  'reward_ensemble': (reward_ensemble, (ensemble.reward_ensemble,)),
  'people': (people, (comparisons.load_comparisons, people_population.people)),
  'two_types': (toy.two_types, ()),
  'np_btl': (np_btl.np_btl, ()),
}

# Filled in from the population, never from a config.
FROM_SPEC = ('num_features', 'num_users')


def defaults(*factories: Callable) -> dict[str, Any]:
  """Returns the keyword arguments of factories that a config may set, with their defaults.

  A default of None becomes a placeholder that a flag can fill; arrays cannot be configured.
  """
  found: dict[str, Any] = {}
  for factory in factories:
    for name, parameter in inspect.signature(factory).parameters.items():
      kinds = str(parameter.annotation)
      if parameter.default is inspect.Parameter.empty or 'Mapping' in kinds:
        continue
      if name in found:
        raise TypeError(f'two factories of one config take {name!r}; rename one of them')
      kind = str if 'str' in kinds else int if 'int' in kinds else float
      empty = config_dict.placeholder(kind)
      found[name] = empty if parameter.default is None else parameter.default
  return found


def known(kind: str, name: str, table: Mapping[str, Any]) -> Any:
  """Looks a name up.

  Raises:
    ValueError: for an unknown name; lists the known ones.
  """
  if name not in table:
    raise ValueError(f'unknown {kind} {name!r}; known: {", ".join(table)}')
  return table[name]


def needed(factory: Callable) -> list[str]:
  """Returns the arguments of a factory that have no default and no place to come from."""
  return [
    name
    for name, parameter in inspect.signature(factory).parameters.items()
    if parameter.default is inspect.Parameter.empty and name not in FROM_SPEC
  ]


def section(kind: str, name: str, default: Mapping[str, Any], changes: Mapping[str, Any]) -> Config:
  """Makes `{name, kwargs}` of a config: defaults of the factories, with changes.

  Raises:
    ValueError: for a change of something that the factories do not take.
  """
  unknown = sorted(set(changes) - set(default))
  if unknown:
    raise ValueError(
      f'{kind} {name!r} takes no {", ".join(unknown)}; it takes {", ".join(default)}'
    )
  return config_dict.ConfigDict({'name': name, 'kwargs': dict(default) | dict(changes)})


def population_config(name: str, **changes: Any) -> Config:
  """Makes the `population` part of a config.

  Raises:
    ValueError: for an unknown population or option.
  """
  build, factories = known('population', name, POPULATIONS)
  return section('population', name, defaults(build, *factories), changes)


def learner_config(name: str, **changes: Any) -> Config:
  """Makes the `learner` part of a config.

  Raises:
    ValueError: for an unknown learner or option.
  """
  factory = known('learner', name, learners.LEARNERS)
  if needed(factory):
    raise ValueError(f'{name}: give a default to {", ".join(needed(factory))}, for configs to set')
  return section('learner', name, defaults(factory), changes)


def population(config: Config) -> Population:
  """Builds `config.population`; the same config gives the same object, arrays and all."""
  return _population(config.population.to_json(sort_keys=True))


@functools.lru_cache(maxsize=8)
def _population(described: str) -> Population:
  part = json.loads(described)
  build, _ = known('population', part['name'], POPULATIONS)
  return build(**part['kwargs'])


def histories(config: Config) -> Histories | None:
  """Reads the histories that a config's people come from; None where users are simulated."""
  if config.population.name != 'people':
    return None
  return load_histories(**config.population.kwargs)


def learner(config: Config, spec: Spec) -> MetaLearner:
  """Builds `config.learner` for a population's sizes."""
  factory = known('learner', config.learner.name, learners.LEARNERS)
  wanted = [name for name in FROM_SPEC if name in inspect.signature(factory).parameters]
  sizes = {name: getattr(spec, name) for name in wanted}
  return _learner(config.learner.to_json(sort_keys=True), tuple(sizes.items()))


@functools.lru_cache(maxsize=64)  # equal configs share one object, and so what jit compiled for it
def _learner(described: str, sizes: tuple[tuple[str, int], ...]) -> MetaLearner:
  part = json.loads(described)
  return learners.make(part['name'], **dict(sizes), **part['kwargs'])


def optimizer(training: Config) -> optax.GradientTransformation:
  """Builds AdamW with a warm-up, cosine decay to 0 and clipping by the global norm."""
  schedule = optax.warmup_cosine_decay_schedule(
    init_value=0.0,
    peak_value=training.learning_rate,
    warmup_steps=max(1, training.num_steps // 20),
    decay_steps=max(2, training.num_steps),
  )
  return optax.chain(
    optax.clip_by_global_norm(training.clip_norm),
    optax.adamw(schedule, weight_decay=training.weight_decay),
  )
