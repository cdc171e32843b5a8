"""Public data sets, from the hub at a pinned revision or from a local folder of the same files."""

import os
import pathlib
import re
from collections.abc import Sequence

import huggingface_hub
import pandas as pd

from metapers.core import files
from metapers.data import frames

NUMBER = re.compile(r'\d+')
SECONDS = 10  # that the hub has to answer in
SUFFIXES = ('.parquet', '.jsonl', '.csv')


def read_table(
  name: str, revision: str, path: str, *, split: str, config: str = '', file: str = ''
) -> pd.DataFrame:
  """Returns one split of a data set.

  Args:
    name: id on the hub.
    revision: commit of the hub's repository.
    path: a local folder instead, with parquet, jsonl or csv files; '' for the hub, whose files are
      cached.
    split: name of the split.
    config: name of the configuration, '' for the only one.
    file: how names of the local files begin, '' for as the split's.

  Raises:
    ValueError: for files that are not in the folder, or a hub that cannot be reached; says what was
      looked for and how to pass a folder.
  """
  if path:
    return read_local(pathlib.Path(path), file or split)
  import datasets  # takes as long to import as all else
  from datasets import exceptions

  try:
    found = datasets.load_dataset(name, config or None, split=split, revision=revision)
  except (exceptions.DatasetNotFoundError, ConnectionError, OSError, ValueError) as error:
    reason = str(error).strip().splitlines()[0]
    raise ValueError(
      f'split {split} of {name} (revision {revision}) cannot be had from the hub: {reason} '
      f'Download {file or split}*.parquet (or .jsonl, .csv) of it and give their folder as path'
    ) from error
  return pd.DataFrame(found.to_dict(), dtype=object)  # or integers beside gaps become floats


def commit_of(name: str, revision: str) -> str:
  """Returns the commit of a data set that a branch or tag names now.

  Raises:
    ValueError: for a hub that cannot be reached, or a revision that it does not have.
  """
  try:
    return str(huggingface_hub.dataset_info(name, revision=revision).sha)
  except Exception as error:  # the library lets through whatever its transport raises
    reason = str(error).strip().splitlines()[0]
    raise ValueError(
      f'the hub does not give the commit of {name} (revision {revision}): {reason}. Without a '
      'network give a local folder of its files as path'
    ) from error


def require_model(name: str, revision: str = 'main') -> None:
  """Refuses a model that is neither a folder, nor in the cache, nor on a hub that answers.

  It is asked once: what loads a model asks a hub that is away again and again, for a minute.

  Raises:
    ValueError: saying why the hub does not give it.
  """
  cached = not os.path.isabs(name) and huggingface_hub.try_to_load_from_cache(
    name, 'config.json', revision=revision
  )
  if os.path.isdir(name) or isinstance(cached, str):
    return
  try:
    huggingface_hub.model_info(name, revision=revision, timeout=SECONDS)
  except Exception as error:  # the library lets through whatever its transport raises
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    raise ValueError(f'it is no folder, and the hub does not give it: {reason}.') from error


def read_local(folder: pathlib.Path, start: str) -> pd.DataFrame:
  """Returns the rows of a folder's files whose names begin with `start`, in the order of names.

  Raises:
    ValueError: naming the folder and what was looked for.
  """
  found = sorted(file for file in folder.glob(f'**/{start}*') if file.suffix in SUFFIXES)
  if not found:
    raise ValueError(f'{folder} holds no {start}*{" or ".join(SUFFIXES)}; give the folder of them')
  check_parts(found)
  return pd.concat([frames.read_frame(file) for file in found], ignore_index=True)


def check_parts(paths: Sequence[pathlib.Path]) -> None:
  """Refuses files that are not the numbered parts of one table, but copies of it.

  Raises:
    ValueError: naming two files of one split in other folders or formats, whose names differ in
      more than numbers, or that hold the same bytes.
  """
  first, *others = paths
  for path in others:
    if (path.parent, NUMBER.sub('#', path.name)) != (first.parent, NUMBER.sub('#', first.name)):
      raise ValueError(
        f'{first} and {path} look like two copies of one split; leave one of them in the folder'
      )
  by_content: dict[str, pathlib.Path] = {}
  for path in paths:
    twin = by_content.setdefault(files.sha256(path.read_bytes()), path)
    if twin != path:
      raise ValueError(f'{twin} and {path} hold the same bytes; leave one of them in the folder')
