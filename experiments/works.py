"""Workdirs of tables and of runs, as `metapers.bench.gathering` takes them."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import config_dict

from experiments import build
from experiments.build import Config
from metapers.bench.gathering import Work
from metapers.io import workdirs

LAUNCHED = 'jobs'  # of a root, where launchers keep what they start
# In a workdir's config.json beside the config.
STORED_BESIDE = ('data', 'learner_source', 'learner_sources', 'population_source')
OF_TABLE = ('kind', 'trained_on')  # what the workdir of a table keeps beside its config


def folders_in(root: pathlib.Path) -> list[pathlib.Path]:
  """Returns the workdirs in a folder, by name.

  Raises:
    ValueError: for a folder that is not there, or holds none.
  """
  found = sorted(path.parent for path in root.glob('*/config.json'))
  if not found:
    raise ValueError(f'{root} holds no workdirs: give the folder that they are in')
  return found


def launched(root: pathlib.Path) -> list[str]:
  """Returns the names of the jobs that a launcher was asked for."""
  return sorted(path.stem for path in (root / LAUNCHED).glob('*.json'))


def of(folder: pathlib.Path, learners: Sequence[str], population: str) -> Work:
  """Returns what a workdir holds.

  Args:
    folder: the workdir.
    learners: 'path/to/file.py:factory' of those from files; no other is loaded.
    population: the same for users from a file.

  Raises:
    ValueError: for a learner or population from a file that is not given.
  """
  stored = workdirs.read_config(folder)
  if 'benchmark' not in stored:
    name = stored.get('learner', {}).get('name', '')
    config = stored_run(stored, learner=given(name, learners), population=population)
    return Work(folder, build.plan(config), is_table=False)
  config = stored_table(stored)
  config.population.name = given(config.population.name, [population])
  # A row may itself be a learner from a file.
  config.benchmark.learners = tuple(given(row, learners) for row in config.benchmark.learners)
  for row in config.benchmark.learners:
    if 'name' in config.learners.get(row, {}):
      config.learners[row].name = given(config.learners[row].name, learners)
  return Work(folder, build.plan(config), is_table=True)


def stored_run(stored: Mapping[str, Any], *, learner: str = '', population: str = '') -> Config:
  """Returns the config that a run's workdir holds.

  Args:
    stored: what `config.json` of the workdir says.
    learner: 'path/to/file.py:factory' of a run of a learner from a file; no other is loaded.
    population: the same for a run on a population from a file.

  Raises:
    ValueError: for a table, or a run of a learner or on a population from a file that is not given.
  """
  if 'benchmark' in stored:
    raise ValueError('this workdir is of a table, of which nothing is trained yet')
  if 'learner' not in stored:
    raise ValueError('this workdir is of `bench.compare`, whose learners have no name to load by')
  config = _config(stored, STORED_BESIDE)
  for kind, given in (('learner', learner), ('population', population)):
    name = config[kind].name
    if build.is_file(name) and build.without_folder(given) != name:
      raise ValueError(
        f'this run is of the {kind} {name!r}: give --{kind}=FOLDER/{name} to load it'
      )
    config[kind].name = given if build.is_file(name) else name
  return config


def stored_table(stored: Mapping[str, Any]) -> Config:
  """Returns the config that a table's workdir holds."""
  return _config(stored, (*STORED_BESIDE, *OF_TABLE))


def _config(stored: Mapping[str, Any], beside: Sequence[str]) -> Config:
  kept = {name: _as_it_was(value) for name, value in stored.items() if name not in beside}
  return config_dict.ConfigDict(kept)


def _as_it_was(value: Any) -> Any:
  """Returns a value with tuples in the place of lists, which JSON makes of them."""
  if isinstance(value, dict):
    return {name: _as_it_was(inner) for name, inner in value.items()}
  return tuple(map(_as_it_was, value)) if isinstance(value, list) else value


def given(name: str, places: Sequence[str]) -> str:
  """Returns where a factory of a stored name is from.

  Args:
    name: as a workdir keeps it.
    places: 'path/to/file.py:factory' of those from files.

  Raises:
    ValueError: for one from a file that is not among the places.
  """
  if not build.is_file(name):
    return name
  for place in places:
    if build.without_folder(place) == name:
      return place
  raise ValueError(f'{name!r} is from a file: give --learner or --population=FOLDER/{name}')
