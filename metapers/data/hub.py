"""Public data sets, from the hub at a pinned revision or from a local folder of the same files."""

import pathlib

import datasets
import pandas as pd
from datasets.exceptions import DatasetNotFoundError

from metapers.data import texts


def read_splits(
  name: str, revision: str, path: str, splits: tuple[str, ...]
) -> dict[str, pd.DataFrame]:
  """Reads some splits of a data set.

  Args:
    name: id on the hub.
    revision: commit of the hub's repository.
    path: a local folder instead, with a parquet or jsonl file for each split whose name starts
      with the split's (as in the hub's `data/`); '' for the hub, whose files are cached.
    splits: names.

  Raises:
    ValueError: for a split that is not in the folder, or a hub that cannot be reached; says which
      file was looked for and how to pass a folder.
  """
  if path:
    return {split: read_local(pathlib.Path(path), split) for split in splits}
  try:
    found = {split: datasets.load_dataset(name, split=split, revision=revision) for split in splits}
  except (DatasetNotFoundError, ConnectionError, OSError, ValueError) as error:
    reason = str(error).strip().splitlines()[0]
    raise ValueError(
      f'the splits {", ".join(splits)} of {name} (revision {revision}) cannot be had from the hub: '
      f'{reason} Download data/{splits[0]}-*.parquet of it elsewhere and give their folder as path'
    ) from error
  return {split: pd.DataFrame(data.to_dict()) for split, data in found.items()}


def read_local(folder: pathlib.Path, split: str) -> pd.DataFrame:
  """Reads the files of one split in a folder, in the order of their names.

  Raises:
    ValueError: naming the folder and what was looked for.
  """
  found = sorted(
    file for file in folder.glob(f'**/{split}*') if file.suffix in ('.parquet', '.jsonl')
  )
  if not found:
    raise ValueError(
      f'{folder} holds no {split}*.parquet or {split}*.jsonl; give the folder of them'
    )
  return pd.concat([texts.read_frame(file) for file in found], ignore_index=True)
