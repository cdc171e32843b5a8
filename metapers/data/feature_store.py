"""A feature store: a folder of a manifest and .npy files, opened memory-mapped.

`rewards.npy` float32 [P, R, B] raw scores, NaN where missing · `response_model.npy` int [P, R] ·
optional: `features.npy` float16 or float32 [P, R, D], `prompt_features.npy` [P, Dp], texts.parquet
with a row per prompt and the columns `prompt`, `subset`, `responses` and `response_models` ·
`manifest.json` with what each file must be, names, statistics, splits and provenance.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from absl import logging
from pyarrow import parquet

from metapers.core import files
from metapers.core.population import SPLITS
from metapers.core.tables import RewardTable
from metapers.core.types import Float
from metapers.data import manifest as manifests
from metapers.data import reward_table
from metapers.data.manifest import TEXTS, Provenance


def write_store(
  path: str | os.PathLike,
  table: RewardTable,
  provenance: Provenance,
  *,
  prompt_features: Float[np.ndarray, 'P Dp'] | None = None,
  texts: pa.Table | None = None,
  overwrite: bool = False,
) -> pathlib.Path:
  """Writes a store to a temporary folder beside `path`, renames it, and returns the path.

  A kill at any moment leaves the old store or none. `table.mean`, `table.std` and `table.source`
  are not written: the statistics are computed anew, and the provenance names the source.

  Args:
    path: folder to make.
    table: raw scores, and features or None.
    provenance: source, licence, extractor and how it was made.
    prompt_features: [P, Dp] or None.
    texts: a row per prompt, with the columns of `texts.parquet`, or None.
    overwrite: replaces a store that is there; anything else is never replaced.

  Raises:
    ValueError: if the folder exists, arrays do not fit the format or each other, features of a
      response that may be shown are not finite, or the table masks a response that has all scores
      and repeats none (opening could not know).
  """
  path = pathlib.Path(path)
  _check_target(path, overwrite)
  arrays = {
    'rewards': table.rewards,
    'response_model': table.response_model,
    'features': table.features,
    'prompt_features': prompt_features,
  }
  arrays = {name: array for name, array in arrays.items() if array is not None}
  for name, array in arrays.items():
    manifests.check_kind(name, name, array)
  responses = None if texts is None else _responses_of(texts)
  content = _describe(table, arrays, responses, provenance)
  with files.writing_folder(path) as place:
    content['files'] = _write_files(place, arrays, texts)
    (place / manifests.MANIFEST).write_text(manifests.dumps(content), encoding='utf-8')
  return path


def open_store(path: str | os.PathLike, *, verify: bool = True) -> RewardTable:
  """Returns the table of a store; its arrays stay on disk until they are read.

  Responses with a missing score, or that repeat an earlier one of their prompt, are masked, and a
  warning counts them.

  Args:
    path: the folder.
    verify: compares the sha256 of every file with the manifest, which reads them whole.

  Raises:
    ValueError: for a file, shape, dtype, hash, name or statistic that does not fit the manifest;
      names the file and both values.
  """
  folder = pathlib.Path(path)
  content, manifest_hash = manifests.read_store_manifest(folder)
  there = content['files']
  if verify:
    for name, entry in there.items():
      manifests.check_sha256(folder, name, entry)
  arrays = {
    name: manifests.load_array(folder, name, there[name])
    for name in manifests.ARRAYS
    if name in there
  }
  texts = prompts = None
  if TEXTS in there:
    read = _read_texts(manifests.locate(folder, TEXTS))
    texts, prompts = _responses_of(read), _prompts_of(read)
  table = _to_table(folder, content, arrays, texts, manifest_hash)._replace(prompt_texts=prompts)
  counts = reward_table.count_masked(table)
  if counts.missing or counts.repeated:
    logging.warning('%s: %s; never shown', folder, counts)
  return table


def text_lengths(
  path: str | os.PathLike, responses: Sequence[int] = ()
) -> tuple[Float[np.ndarray, 'P R'], np.ndarray] | None:
  """Returns the lengths of a store's responses [P, R], in words, and where each prompt is from [P].

  Args:
    path: the folder.
    responses: numbers (from 1) of the responses to keep; none for all.

  Returns:
    None for a folder without texts, and for 'synthetic', which is none.

  Raises:
    ValueError: for texts that cannot be read, or a number beyond the responses.
  """
  file = manifests.file_of(pathlib.Path(path), TEXTS)
  if not file.is_file():
    return None
  table = _read_texts(file)
  texts = _responses_of(table)
  wrong = [number for number in responses if not 1 <= number <= texts.shape[1]]
  if wrong:
    raise ValueError(f'responses must be numbers from 1 to {texts.shape[1]}, got {wrong}')
  lengths = np.vectorize(lambda text: len((text or '').split()), otypes=[np.float32])(texts)
  kept = [number - 1 for number in responses] or slice(None)
  has_subset = 'subset' in table.column_names
  subset = table['subset'].to_pylist() if has_subset else [''] * len(texts)
  return lengths[:, kept], np.array([name or '' for name in subset], str)


def response_texts(path: str | os.PathLike) -> np.ndarray:
  """Returns the texts of a store's responses [P, R], '' for none.

  Raises:
    ValueError: for a store without texts.
  """
  file = manifests.file_of(pathlib.Path(path), TEXTS)
  if not file.is_file():
    raise ValueError(f'{path} holds no texts of its responses; extract a store from texts')
  found = _responses_of(_read_texts(file))
  return np.vectorize(lambda text: text or '', otypes=[object])(found)


def _check_target(path: pathlib.Path, overwrite: bool) -> None:
  if not path.exists():
    return
  if not (path / manifests.MANIFEST).is_file():
    raise ValueError(f'{path} exists and is not a feature store; choose another path')
  if not overwrite:
    raise ValueError(f'{path} exists; choose another path, or pass overwrite=True')


def _describe(
  table: RewardTable,
  arrays: Mapping[str, np.ndarray],
  responses: np.ndarray | None,
  provenance: Provenance,
) -> dict[str, Any]:
  content = {
    'format': manifests.FORMAT,
    'version': manifests.VERSION,
    **provenance._asdict(),
    'reward_models': list(table.reward_models),
    'response_models': list(table.response_models),
    'splits': list(SPLITS),
    'prompt_split': table.prompt_split.tolist(),
  }
  manifests.check_shapes('the table', content, arrays, responses)
  mask = reward_table.usable_responses(table.rewards, responses)
  if not np.array_equal(mask, table.mask):
    raise ValueError(
      f'the table masks {int((~table.mask).sum())} responses, its scores and texts '
      f'{int((~mask).sum())}; set the scores of a response to NaN to mask it'
    )
  if table.features is not None:
    manifests.check_finite(table.features, mask)
  mean, std = reward_table.statistics(table.rewards, mask, table.prompt_split, table.reward_models)
  content['train_mean'] = dict(zip(table.reward_models, mean.tolist()))
  content['train_std'] = dict(zip(table.reward_models, std.tolist()))
  return content


def _write_files(
  folder: pathlib.Path, arrays: Mapping[str, np.ndarray], texts: pa.Table | None
) -> dict[str, Any]:
  entries = {}
  for name, array in arrays.items():
    path = manifests.file_of(folder, name)
    np.save(path, array, allow_pickle=False)
    entries[name] = manifests.describe(path, array)
  if texts is not None:
    path = manifests.file_of(folder, TEXTS)
    parquet.write_table(texts, path)
    entries[TEXTS] = manifests.describe(path, None)
  return entries


def _read_texts(path: pathlib.Path) -> pa.Table:
  try:
    return parquet.read_table(path)
  except (pa.ArrowException, OSError) as error:
    raise ValueError(f'{path} is not a readable parquet file: {error}') from error


def _responses_of(texts: pa.Table) -> np.ndarray:
  fields = {field.name: field.type for field in texts.schema}
  if not pa.types.is_list(fields.get('responses')):
    raise ValueError(f'texts must have a column responses of lists, got {fields}')
  rows = [row or [] for row in texts['responses'].to_pylist()]
  widths = sorted({len(row) for row in rows})
  if len(widths) != 1:
    raise ValueError(f'texts must have as many responses for every prompt, got {widths}')
  return np.array(rows, object)  # [P, R]


def _prompts_of(texts: pa.Table) -> np.ndarray | None:
  if 'prompt' not in texts.column_names:
    return None
  return np.array([text or '' for text in texts['prompt'].to_pylist()], object)  # [P]


def _to_table(
  folder: pathlib.Path,
  content: Mapping[str, Any],
  arrays: Mapping[str, np.ndarray],
  texts: np.ndarray | None,
  manifest_hash: str,
) -> RewardTable:
  manifests.check_shapes(str(folder), content, arrays, texts)
  rewards = arrays['rewards']
  mask = reward_table.usable_responses(rewards, texts)
  prompt_split = np.array(content['prompt_split'], np.int8)
  mean, std = reward_table.statistics(rewards, mask, prompt_split, content['reward_models'])
  manifests.check_statistics(folder / manifests.MANIFEST, content, mean, std)
  return RewardTable(
    rewards=rewards,
    features=arrays.get('features'),
    mask=mask,
    reward_models=tuple(content['reward_models']),
    response_model=arrays['response_model'],
    response_models=tuple(content['response_models']),
    mean=mean,
    std=std,
    prompt_split=prompt_split,
    source=content['source'],
    manifest_hash=manifest_hash,
    licence=content['licence'],
  )
