"""Long work in parts on disk: each part is there whole or not at all, and is made once.

A job is a folder with `job.json`, its recipe, and one .npz file for each part. After a kill at any
moment the same job resumes; parts made on several machines are merged if their recipes agree.
"""

import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from metapers.core import array_files, files

JOB = 'job.json'


class Job(NamedTuple):
  """folder: where parts are. recipe: what every part must have been made by, as JSON values."""

  folder: pathlib.Path
  recipe: Mapping[str, Any]


Part = Mapping[str, np.ndarray]


def claim_job(folder: str | os.PathLike, recipe: Mapping[str, Any]) -> Job:
  """Returns the job of a folder, new or to be resumed; its first part writes the recipe.

  Raises:
    ValueError: for a folder of another job, showing what differs, or of something else.
  """
  folder = pathlib.Path(folder)
  wanted = json.loads(json.dumps(recipe))
  if (folder / JOB).exists():
    check_recipe(folder, read_recipe(folder), wanted)
  elif folder.exists() and not all(entry.name.startswith('.') for entry in folder.iterdir()):
    raise ValueError(f'{folder} is not empty and holds no {JOB}; give another folder')
  return Job(folder, wanted)


def read_recipe(folder: pathlib.Path) -> dict[str, Any]:
  """Returns the recipe of the job in a folder.

  Raises:
    ValueError: where there is no job, or its file is not JSON.
  """
  return files.read_json(folder / JOB, 'parts of an extraction')


def check_recipe(folder: pathlib.Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
  """Checks that parts were made by the same recipe.

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


def part_path(job: Job, name: str) -> pathlib.Path:
  """Returns the file of one part."""
  return job.folder / f'{name}.npz'


def save_part(job: Job, name: str, part: Part) -> None:
  """Writes one part, atomically; equal arrays give equal bytes."""
  _keep_part(job, name, array_files.packed(part))


def load_part(job: Job, name: str) -> dict[str, np.ndarray]:
  """Returns one part.

  Raises:
    ValueError: for a part that is missing or damaged.
  """
  path = part_path(job, name)
  if not path.exists():
    raise ValueError(f'{path} is missing; run its shard first')
  try:
    return array_files.read_npz(path)
  except ValueError as error:
    raise ValueError(f'{path} is damaged ({error}); delete it and go on') from error


def merge_parts(job: Job, others: Iterable[str | os.PathLike], names: Sequence[str]) -> None:
  """Copies the named parts from other folders into the job's own.

  Raises:
    ValueError: for a folder of another recipe, or a part that is in none of the folders.
  """
  for folder in map(pathlib.Path, others):
    check_recipe(folder, read_recipe(folder), job.recipe)
    other = Job(folder, job.recipe)
    for name in names:
      if part_path(other, name).exists() and not part_path(job, name).exists():
        load_part(other, name)
        _keep_part(job, name, part_path(other, name).read_bytes())
  missing = [name for name in names if not part_path(job, name).exists()]
  if missing:
    raise ValueError(
      f'{len(missing)} of {len(names)} parts are in no folder, the first is {missing[0]}; run the '
      'shards that make them'
    )


def _keep_part(job: Job, name: str, content: bytes) -> None:
  if (job.folder / JOB).exists():  # of another process, by now
    check_recipe(job.folder, read_recipe(job.folder), job.recipe)
  else:
    files.write_json(job.folder / JOB, job.recipe)
  files.write_atomically(part_path(job, name), content)
