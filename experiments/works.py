"""Workdirs of tables and of runs, as `metapers.bench.gathering` takes them."""

import pathlib
from collections.abc import Sequence
from typing import Any

from ml_collections import config_dict

from experiments import build
from experiments.build import Config
from metapers.bench.gathering import Work
from metapers.io import workdirs

LAUNCHED = 'jobs'  # of a root, where launchers keep what they start
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
    config = build.stored_run(stored, learner=given(name, learners), population=population)
    return Work(folder, build.plan(config), is_table=False)
  config = stored_table(stored)
  config.population.name = given(config.population.name, [population])
  for row in config.benchmark.learners:
    if build.is_file(build.name_of(config, row)):
      config.learners[row].name = given(config.learners[row].name, learners)
  return Work(folder, build.plan(config), is_table=True)


def stored_table(stored: dict[str, Any]) -> Config:
  """Returns the config that a table's workdir holds."""
  beside = (*build.STORED_BESIDE, *OF_TABLE)
  return config_dict.ConfigDict(
    {name: value for name, value in stored.items() if name not in beside}
  )


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
