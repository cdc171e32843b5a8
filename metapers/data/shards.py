"""Long work in parts on disk: each part is there whole or not at all, and is made once.

A job is a folder with `job.json`, which says what is made, and one .npz file for each part. Killed
at any moment, the same job goes on; parts made on several machines are joined if their jobs agree.
"""

import json
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from metapers.core import files

JOB = 'job.json'


class Job(NamedTuple):
  """folder: where parts are. recipe: what every part must have been made by, as JSON values."""

  folder: pathlib.Path
  recipe: Mapping[str, Any]


Part = Mapping[str, np.ndarray]


def claim(folder: str | os.PathLike, recipe: Mapping[str, Any]) -> Job:
  """Takes a new folder for a job, or goes on with the one that is there.

  Raises:
    ValueError: for a folder of another job, showing what differs, or of something else.
  """
  folder = pathlib.Path(folder)
  wanted = json.loads(json.dumps(recipe))
  if (folder / JOB).exists():
    compare(folder, read_recipe(folder), wanted)
  elif folder.exists() and not all(entry.name.startswith('.') for entry in folder.iterdir()):
    raise ValueError(f'{folder} is not empty and holds no {JOB}; give another folder')
  else:
    files.write_json(folder / JOB, wanted)
  return Job(folder, wanted)


def read_recipe(folder: pathlib.Path) -> dict[str, Any]:
  """Reads what a job makes.

  Raises:
    ValueError: where there is no job, or its file is not JSON.
  """
  return files.read_json(folder / JOB, 'parts of an extraction')


def compare(folder: pathlib.Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
  """Refuses parts that were made otherwise.

  Raises:
    ValueError: listing every field that differs, with both values.
  """
  different = [
    f'{name}: {old.get(name)!r:.100} there, {new.get(name)!r:.100} now'
    for name in sorted(set(old) | set(new))
    if old.get(name) != new.get(name)
  ]
  if different:
    raise ValueError(
      f'{folder} holds parts made otherwise ({"; ".join(different)}); give another folder, or the '
      'same options'
    )


def path_of(job: Job, name: str) -> pathlib.Path:
  """Returns the file of one part."""
  return job.folder / f'{name}.npz'


def save(job: Job, name: str, part: Part) -> None:
  """Keeps one part: equal arrays give equal bytes."""
  files.write_npz(path_of(job, name), part)


def load(job: Job, name: str) -> dict[str, np.ndarray]:
  """Loads one part.

  Raises:
    ValueError: for a part that is missing or damaged.
  """
  path = path_of(job, name)
  if not path.exists():
    raise ValueError(f'{path} is missing; run its shard first')
  try:
    return files.read_npz(path)
  except ValueError as error:
    raise ValueError(f'{path} is damaged ({error}); delete it and go on') from error


def make_missing(
  job: Job, names: Sequence[str], make: Callable[[str], Part], done: Callable[[str], None]
) -> None:
  """Makes the parts that are not there yet, in order.

  Args:
    job: that they belong to.
    names: of the parts.
    make: name -> its arrays.
    done: called after each part, also for those that were there.
  """
  for name in names:
    if not path_of(job, name).exists():
      save(job, name, make(name))
    done(name)


def merge(job: Job, others: Iterable[str | os.PathLike], names: Sequence[str]) -> None:
  """Copies parts of other folders into a job's own.

  Raises:
    ValueError: for a folder whose parts were made otherwise, or parts that none has.
  """
  for folder in map(pathlib.Path, others):
    compare(folder, read_recipe(folder), job.recipe)
    other = Job(folder, job.recipe)
    for name in names:
      if path_of(other, name).exists() and not path_of(job, name).exists():
        load(other, name)
        files.write_atomically(path_of(job, name), path_of(other, name).read_bytes())
  missing = [name for name in names if not path_of(job, name).exists()]
  if missing:
    raise ValueError(
      f'{len(missing)} of {len(names)} parts are in no folder, the first is {missing[0]}; run the '
      'shards that make them'
    )
