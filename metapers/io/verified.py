"""What orbax stores and does not verify: arrays beside a sealed description of them.

Orbax restores an altered file in silence, so the description carries the sha256 of all arrays, and
of itself.
"""

import functools
import hashlib
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging

from metapers.core.types import PyTree
from metapers.io import leaves

Read = Callable[..., Any]


def to_save(arrays: Mapping[str, jax.Array], **facts: Any) -> ocp.args.Composite:
  """Returns what orbax is given to save: arrays by name, and their sealed description.

  Args:
    arrays: see `leaves.named_on_devices`.
    **facts: JSON values that the description holds beside the checksums.
  """
  about = seal({'arrays': leaves.describe(arrays), **facts})
  saved = ocp.args.StandardSave(dict(arrays))
  return ocp.args.Composite(state=saved, about=ocp.args.JsonSave(about))


def read_description(read: Read, name: str) -> dict[str, Any] | None:
  """Returns a description that is intact; None after a warning where there is none.

  Args:
    read: orbax's restore of one checkpoint, given `args`.
    name: of the checkpoint, for warnings.
  """
  try:
    about = read(args=ocp.args.Composite(about=ocp.args.JsonRestore()))['about']
  except Exception as error:  # what a damaged file raises depends on which byte is wrong
    logging.warning('%s cannot be read: %s', name, _line(error))
    return None
  if not isinstance(about, dict) or about != seal(about):
    logging.warning('%s: its description is altered', name)
    return None
  return about


def read_state(read: Read, name: str, about: Mapping[str, Any], like: PyTree) -> PyTree | None:
  """Returns the arrays if they are as described; None after a warning if they are not.

  Args:
    read: orbax's restore of one checkpoint, given `args`.
    name: of the checkpoint, for warnings.
    about: their description.
    like: pytree of the same structure, shapes and dtypes; its shardings are those of the result.

  Raises:
    ValueError: if names, shapes or dtypes are described as others.
  """
  wanted = {
    name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
    for name, leaf in leaves.named_on_devices(like).items()
  }
  leaves.check_form(wanted, about['arrays'])
  try:
    found = read(args=ocp.args.Composite(state=ocp.args.StandardRestore(wanted)))['state']
  except Exception as error:  # as above
    logging.warning('%s cannot be read: %s', name, _line(error))
    return None
  altered = leaves.altered(found, about['arrays'])
  if altered:
    logging.warning('%s is damaged: wrong checksums of %s', name, ', '.join(altered))
    return None
  return leaves.like(like, found)


def store_by_hash(folder: pathlib.Path, state: PyTree) -> str:
  """Stores arrays under the hash of their description, unless they are there; returns the hash."""
  items = to_save(leaves.named_on_devices(state))
  name = items['about'].item['seal']
  if not (folder / name).exists():
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
      checkpointer.save(folder / name, args=items)
  return name


def restore_by_hash(folder: pathlib.Path, name: str, like: PyTree) -> PyTree:
  """Returns the arrays stored under a hash.

  Args:
    folder: of all hashes.
    name: the hash.
    like: pytree of the same structure, shapes and dtypes; its shardings are those of the result.

  Raises:
    ValueError: if they are missing or damaged.
  """
  path = folder / name
  with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
    read = functools.partial(checkpointer.restore, path)
    about = read_description(read, str(path)) or {}
    state = read_state(read, str(path), about, like) if about.get('seal') == name else None
  if state is None:
    raise ValueError(
      f'the arrays in {path} are missing or damaged, and all checkpoints need them; restore them '
      'from a copy, or start again in another workdir'
    )
  return state


def seal(about: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a description with the sha256 of its content under 'seal'."""
  content = {name: value for name, value in about.items() if name != 'seal'}
  described = json.dumps(content, sort_keys=True).encode()
  return {**content, 'seal': hashlib.sha256(described).hexdigest()}


def _line(error: Exception) -> str:
  return f'{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ""}'[:200]
