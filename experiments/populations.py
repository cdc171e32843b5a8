"""The populations that a config trains or judges on, each once."""

from collections.abc import Iterator, Mapping
from typing import Any

from experiments import settings
from experiments.build import Config


def of_config(config: Config) -> dict[str, Config]:
  """Lists the populations of a run or of a table.

  These are those that learners are judged on, under each condition; those that they are trained on,
  in common or with options of their own; and of people each fold.

  Returns:
    Short name -> the config of one population.
  """
  found: dict[str, Config] = {}
  for name, part in named(config):
    if all(part.population != other.population for other in found.values()):
      found[name] = part
  return found


def named(config: Config) -> Iterator[tuple[str, Config]]:
  """Yields every population with its name, some of them alike."""
  table = config.get('benchmark', {})
  conditions = table.get('conditions', ({},))
  for condition in conditions:
    yield from by_fold(config, condition, [settings.name_of(condition)])
  for condition in conditions if table.get('retrain', False) else ({},):
    name = settings.name_of(condition)
    yield from by_fold(config, condition, [name, 'trained on'])
    for learner in table.get('learners', ()):
      own = config.learners[learner].get('population', {})
      yield from by_fold(config, {**own, **condition}, [name, f'trained on by {learner}'])


def by_fold(
  config: Config, options: Mapping[str, Any], name: list[str]
) -> Iterator[tuple[str, Config]]:
  """Yields the population with some options, once for each fold."""
  for fold, part in zip(settings.folds(config), settings.parts(config, options), strict=True):
    yield ', '.join(name if fold is None else [*name, f'fold {fold}']), part
