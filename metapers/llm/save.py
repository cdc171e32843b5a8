"""A decoder's parameters as a Hugging Face folder that transformers loads."""

import math
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import safetensors.numpy

from metapers.core import files
from metapers.core.types import Params
from metapers.llm import hf_config, load
from metapers.llm.layers import Config

# What else is in such a folder and stays true of other weights of the same model.
COMPANIONS = (
  'added_tokens.json', 'chat_template.jinja', 'generation_config.json', 'merges.txt',
  'special_tokens_map.json', 'tokenizer.json', 'tokenizer.model', 'tokenizer_config.json',
  'vocab.json', 'LICENSE', 'NOTICE',
)  # fmt: skip
# Where an older file says what is said anew.
REPLACED = ('rope_scaling', 'rope_theta', 'torch_dtype')


def save(
  folder: str | os.PathLike,
  config: Config,
  params: Params,
  *,
  like: str | os.PathLike | None = None,
  shard_bytes: int = 2_000_000_000,
) -> pathlib.Path:
  """Writes config.json and safetensors, and returns the folder.

  Args:
    folder: where to; a model that is there is replaced when all is written.
    config: of the decoder.
    params: all of them in float32, or all in bfloat16; see `lora.Lora.merge`.
    like: a folder of the same model, from which the tokenizer and the other fields of config.json
      (the tokens that begin and end texts) are taken over.
    shard_bytes: the most that one file holds, if it holds more than one array.

  Raises:
    ValueError: for a folder that holds something else, or parameters of another form, or of several
      dtypes.
  """
  folder = pathlib.Path(folder)
  own = [x.name for x in folder.glob('*') if x.suffix in load.ANSWERS_BY or x.name in COMPANIONS]
  files.check_replaceable(folder, (hf_config.FILE, *own))
  names = load.names_of(config)
  arrays = {path: _found(params, path) for path in names}
  dtypes = {np.dtype(array.dtype).name for array in arrays.values()}
  if len(dtypes) > 1 or not dtypes <= set(load.DTYPES):
    raise ValueError(f'params must be all of one dtype of {load.DTYPES}, got {sorted(dtypes)}')
  made = hf_config.to_json(config, dtypes.pop())
  source = pathlib.Path(like) if like else None
  old = files.read_json(source / hf_config.FILE) if source else {}
  made = {name: value for name, value in old.items() if name not in REPLACED} | made
  with files.writing_folder(folder) as temporary:
    _write_weights(temporary, config, arrays, shard_bytes)
    for path in [source / name for name in COMPANIONS] if source else ():
      if path.is_file():
        shutil.copyfile(path, temporary / path.name)
    files.write_json(temporary / hf_config.FILE, made)
  return folder


def _write_weights(
  folder: pathlib.Path, config: Config, arrays: dict[tuple[str, ...], Any], shard_bytes: int
) -> None:
  shapes, places = load.shapes_of(config), _places(config)
  item = next(iter(arrays.values())).dtype.itemsize
  sizes = {name: item * math.prod(shape) for name, shape in shapes.items()}
  shards = list(_shards(sizes, shard_bytes))
  weight_map = {}
  for number, names in enumerate(shards, 1):
    file = load.FILE if len(shards) == 1 else f'model-{number:05}-of-{len(shards):05}.safetensors'
    content = {name: _published(arrays, places[name], name, shapes[name]) for name in names}
    safetensors.numpy.save_file(content, folder / file, metadata={'format': 'pt'})
    weight_map |= dict.fromkeys(names, file)
  if len(shards) > 1:
    about = {'metadata': {'total_size': sum(sizes.values())}, 'weight_map': weight_map}
    files.write_json(folder / load.INDEX, about)


def _places(config: Config) -> dict[str, tuple[tuple[str, ...], int]]:
  """Returns published name -> path of the parameter that holds it, and the layer."""
  named = load.names_of(config).items()
  return {name: (path, layer) for path, names in named for layer, name in enumerate(names)}


def _shards(sizes: dict[str, int], most: int) -> Iterator[list[str]]:
  shard, held = [], 0
  for name, size in sizes.items():
    if shard and held + size > most:
      yield shard
      shard, held = [], 0
    shard.append(name)
    held += size
  yield shard


def _published(
  arrays: dict[tuple[str, ...], Any],
  place: tuple[tuple[str, ...], int],
  name: str,
  shape: tuple[int, ...],
) -> np.ndarray:
  path, layer = place
  array = np.asarray(arrays[path][layer] if path[0] == 'layers' else arrays[path])
  array = np.ascontiguousarray(array.T if path[-1] == 'kernel' else array)
  if array.shape != shape:
    raise ValueError(f'{".".join(path)} makes {name} {array.shape}, and the config {shape}')
  return array


def _found(params: Params, path: tuple[str, ...]) -> Any:
  for part in path:
    if part not in params:
      raise ValueError(f'params lack {".".join(path)}, which the config has')
    params = params[part]
  return params
