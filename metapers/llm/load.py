"""A decoder's parameters out of the safetensors of a Hugging Face folder, as they are published.

    config = hf_config.read(folder)
    params = load.params(folder, dtype=jnp.bfloat16)

Arrays are read one layer at a time from memory-mapped files, so that loading takes the memory of
the model and of one projection of all layers.
"""

import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors

from metapers.core import files
from metapers.core.types import Array, Params
from metapers.io import workdirs
from metapers.llm import hf_config
from metapers.llm.layers import Config

FILE = 'model.safetensors'
INDEX = 'model.safetensors.index.json'
DTYPES = ('float32', 'bfloat16')
READABLE = ('F32', 'BF16', 'F16')
MOST_NAMED = 20  # weights in one message
EMBEDDING, NORM, HEAD = 'model.embed_tokens.weight', 'model.norm.weight', 'lm_head.weight'
# Path within a layer -> name within a published one. Published kernels are [outputs, inputs].
KERNELS = {
  ('query', 'kernel'): 'self_attn.q_proj.weight',
  ('key', 'kernel'): 'self_attn.k_proj.weight',
  ('value', 'kernel'): 'self_attn.v_proj.weight',
  ('out', 'kernel'): 'self_attn.o_proj.weight',
  ('gate', 'kernel'): 'mlp.gate_proj.weight',
  ('up', 'kernel'): 'mlp.up_proj.weight',
  ('down', 'kernel'): 'mlp.down_proj.weight',
}
VECTORS = {
  ('norm_attention', 'scale'): 'input_layernorm.weight',
  ('norm_mlp', 'scale'): 'post_attention_layernorm.weight',
}
BIASES = {
  ('query', 'bias'): 'self_attn.q_proj.bias',
  ('key', 'bias'): 'self_attn.k_proj.bias',
  ('value', 'bias'): 'self_attn.v_proj.bias',
}
HEAD_NORMS = {
  ('query_norm', 'scale'): 'self_attn.q_norm.weight',
  ('key_norm', 'scale'): 'self_attn.k_norm.weight',
}
# Files of Llama 2 hold the angles, which follow from the configuration.
DERIVED = 'self_attn.rotary_emb.inv_freq'

# What a model answers by: weights, configuration, tokenizer and chat template.
ANSWERS_BY = ('.safetensors', '.json', '.jinja', '.model', '.txt')

Put = Callable[[str, np.ndarray], Array]


def fingerprint(folder: str | os.PathLike) -> str:
  """Returns a hash of all files of a Hugging Face folder that decide what the model answers."""
  paths = pathlib.Path(folder).iterdir()
  return workdirs.content_of(path for path in paths if path.suffix in ANSWERS_BY)


def params(
  folder: str | os.PathLike,
  *,
  dtype: Any = jnp.float32,
  put: Put = lambda name, array: jnp.asarray(array),
) -> Params:
  """Returns the parameters of a Hugging Face folder for `decoder.decoder(hf_config.read(folder))`.

  Args:
    folder: with config.json, and one file of safetensors or several with their index.
    dtype: of the parameters: float32 or bfloat16.
    put: `(name, array) -> array`: lays each out, as over several devices, before the next is read;
      names are as of 'layers.query.kernel'.

  Raises:
    ValueError: for a configuration that is not supported, files that are missing or damaged, or
      weights that are missing, left over, or of another shape, each of which is named.
  """
  config = hf_config.read(folder)
  dtype = jnp.dtype(dtype)
  if dtype.name not in DTYPES:
    raise ValueError(f'dtype must be one of {DTYPES}, got {dtype.name}')
  weights = _Weights(pathlib.Path(folder))
  weights.check(config)
  made: dict[str, Any] = {'layers': {}, 'norm': {}}
  for path, names in names_of(config).items():
    array = weights.read(names, path, dtype)
    *outer, last = path
    place = made
    for part in outer:
      place = place.setdefault(part, {})
    place[last] = put('.'.join(path), array)
  return made


def names_of(config: Config) -> dict[tuple[str, ...], list[str]]:
  """Returns path of each parameter -> the published names: one, or one of each layer."""
  places = in_layers(config)
  numbers = range(config.num_layers)
  stacked = {
    ('layers', *path): [f'model.layers.{number}.{name}' for number in numbers]
    for path, name in places.items()
  }
  head = {} if config.is_tied else {('head',): [HEAD]}
  return {('embedding',): [EMBEDDING], **stacked, ('norm', 'scale'): [NORM], **head}


def in_layers(config: Config) -> dict[tuple[str, str], str]:
  """Returns path within a layer -> published name within a layer."""
  biases = BIASES if config.has_bias else {}
  return KERNELS | VECTORS | biases | (HEAD_NORMS if config.has_head_norm else {})


def shapes_of(config: Config) -> dict[str, tuple[int, ...]]:
  """Returns published name -> shape, of every array that the folder must hold."""
  width, hidden, size = config.width, config.hidden, config.head_size
  queries, keys = config.num_heads * size, config.num_key_heads * size
  table = (config.vocab_size, width)
  outputs = {'query': queries, 'key': keys, 'value': keys, 'out': width}
  outputs |= {'gate': hidden, 'up': hidden, 'down': width}
  inputs = {'out': queries, 'down': hidden}
  scales = {'norm_attention': width, 'norm_mlp': width, 'query_norm': size, 'key_norm': size}

  def shape(part, kind):
    if kind == 'scale':
      return (scales[part],)
    return (outputs[part],) if kind == 'bias' else (outputs[part], inputs.get(part, width))

  found = {EMBEDDING: table, NORM: (width,)} | ({} if config.is_tied else {HEAD: table})
  for number in range(config.num_layers):
    for path, name in in_layers(config).items():
      found[f'model.layers.{number}.{name}'] = shape(*path)
  return found


class _Weights:
  """The arrays of a folder, by their published names; none is read before it is asked for."""

  def __init__(self, folder: pathlib.Path):
    self._folder = folder
    self._files = {path: _opened(path) for path in _paths(folder)}
    self._where = {name: file for file in self._files.values() for name in list(file.keys())}

  def check(self, config: Config) -> None:
    """Raises ValueError unless the arrays are those of a configuration, whole and no more."""
    expected = shapes_of(config)
    there = {name for name in self._where if not name.endswith(DERIVED)}
    if config.is_tied and {HEAD, EMBEDDING} <= there:
      self._check_tied()
      there.remove(HEAD)
    wrong = [f'{name} is missing' for name in expected if name not in there]
    wrong += [f'{name} is not read' for name in sorted(there - expected.keys())]
    for name in sorted(there & expected.keys()):
      piece = self._where[name].get_slice(name)
      shape, dtype = tuple(piece.get_shape()), piece.get_dtype()
      if shape != expected[name]:
        wrong.append(f'{name} is {list(shape)}, not {list(expected[name])}')
      elif dtype not in READABLE:
        wrong.append(f'{name} is {dtype}, not one of {READABLE}')
    if wrong:
      said = '; '.join(wrong[:MOST_NAMED]) + ('; ...' if len(wrong) > MOST_NAMED else '')
      raise ValueError(
        f'{self._folder}: {len(wrong)} weights are not as {hf_config.FILE} has them: {said}'
      )

  def read(self, names: list[str], path: tuple[str, ...], dtype: np.dtype) -> np.ndarray:
    """Returns one parameter, those of layers stacked, kernels as [inputs, outputs]."""
    arrays = (self._where[name].get_tensor(name) for name in names)
    if path[-1] == 'kernel':
      arrays = (array.T for array in arrays)
    if path[0] != 'layers':
      return np.ascontiguousarray(next(arrays), dtype)
    first = next(arrays)
    stacked = np.empty((len(names), *first.shape), dtype)
    stacked[0] = first
    for number, array in enumerate(arrays, 1):
      stacked[number] = array
    return stacked

  def _check_tied(self) -> None:
    head, embedding = (self._where[name].get_tensor(name) for name in (HEAD, EMBEDDING))
    if not np.array_equal(head, embedding):
      raise ValueError(
        f'{self._folder}: tie_word_embeddings is true, but {HEAD} is not the embedding; set it to '
        f'false in {hf_config.FILE} if the head is meant'
      )


def _paths(folder: pathlib.Path) -> list[pathlib.Path]:
  index = folder / INDEX
  if (folder / FILE).exists() or not index.exists():
    if not (folder / FILE).exists():
      raise ValueError(f'{folder} holds neither {FILE} nor {INDEX}; no other form is read')
    return [files.regular(folder / FILE)]
  names = files.read_json(index).get('weight_map')
  if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
    raise ValueError(f'{index} must hold a weight_map of names of files; restore it from a copy')
  return [files.within(folder, name) for name in sorted(set(names.values()))]


def _opened(path: pathlib.Path) -> Any:
  try:
    return safetensors.safe_open(path, 'numpy')
  except safetensors.SafetensorError as error:
    raise ValueError(f'{path} cannot be read ({error}): damaged; restore it from a copy') from error
