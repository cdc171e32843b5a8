"""Any pytree as named arrays and back, and checksums by which they are verified."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core.types import PyTree
from metapers.io import processes

Description = dict[str, dict[str, Any]]


def by_path(tree: PyTree, root: str = '') -> dict[str, Any]:
  """Returns the leaves of a pytree by the dotted path to each, such as 'params.base.w'.

  Raises:
    ValueError: for two leaves of one path, as of a key with a dot.
  """
  found, _ = jax.tree_util.tree_flatten_with_path(tree)
  named = {_path(path, root): leaf for path, leaf in found}
  if len(named) < len(found):
    raise ValueError(f'two arrays have one path among {", ".join(named)}; use keys without dots')
  return named


def named(state: PyTree) -> dict[str, np.ndarray]:
  """Returns copies on the host of the arrays of a pytree, PRNG keys as their data, by path.

  Arrays without entries are left out.
  """
  return {name: np.array(_data(leaf)) for name, leaf in by_path(state).items() if leaf.size}


def named_on_devices(state: PyTree) -> dict[str, jax.Array]:
  """Returns the arrays of a pytree where they are, PRNG keys as their data, by path.

  Arrays without entries, such as weights of a context of width 0, are left out: orbax refuses them.
  """
  return {name: jnp.asarray(_data(leaf)) for name, leaf in by_path(state).items() if leaf.size}


def like(old: PyTree, leaves: Mapping[str, Any]) -> PyTree:
  """Returns named arrays in the structure of another pytree, whose own arrays are not used."""

  def revive(path, leaf):
    if not leaf.size:
      return leaf
    new = jnp.asarray(leaves[_path(path)])
    return jax.random.wrap_key_data(new, impl=jax.random.key_impl(leaf)) if is_key(leaf) else new

  return jax.tree_util.tree_map_with_path(revive, old)


def rebuild(stored: Mapping[str, np.ndarray], shapes: PyTree) -> PyTree:
  """Returns the tree that stored arrays came from.

  Args:
    stored: arrays by name.
    shapes: the tree with a `ShapeDtypeStruct` for each array, as `jax.eval_shape` gives it.

  Raises:
    ValueError: for a name, shape or dtype that differs.
  """
  expected = {name: leaf for name, leaf in by_path(shapes).items() if leaf.size}
  kinds = [
    {name: f'{array.dtype}{list(array.shape)}' for name, array in arrays.items()}
    for arrays in (stored, expected)
  ]
  wrong = differences(*kinds)
  if wrong:
    found, expected = (kind.get(wrong[0], 'nothing') for kind in kinds)
    raise ValueError(
      f'{len(wrong)} stored arrays do not fit; {wrong[0]!r} is {found}, expected {expected}: '
      'other code stored it; use the version of metapers that did'
    )
  old = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)  # as large as stored
  return like(old, stored)


def checksums(leaves: Mapping[str, np.ndarray]) -> dict[str, str]:
  """Returns the sha256 of dtype, shape and bytes of each array."""

  def checksum(array):
    array = np.ascontiguousarray(array)
    described = f'{array.dtype} {array.shape} '.encode()
    return hashlib.sha256(described + array.tobytes()).hexdigest()

  return {name: checksum(np.asarray(leaf)) for name, leaf in leaves.items()}


def is_key(leaf: Any) -> bool:
  """Returns whether a leaf is an array of PRNG keys."""
  return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def differences(actual: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
  """Returns the names under which two mappings differ."""
  names = sorted(set(actual) | set(expected))
  return [name for name in names if actual.get(name) != expected.get(name)]


def describe(arrays: Mapping[str, jax.Array]) -> Description:
  """Returns dtype, shape and {range: sha256} of each array; all processes must call this.

  A range, such as '0:8,0:64', lies in the global array, so that it is verified on however many
  devices. Each process hashes what it owns.
  """
  own = {name: _digests(array, owned=True) for name, array in arrays.items()}
  gathered = processes.gather(own)
  return {
    name: {
      'dtype': str(array.dtype),
      'shape': list(array.shape),
      'ranges': {where: digest for part in gathered for where, digest in part[name].items()},
    }
    for name, array in arrays.items()
  }


def altered(arrays: Mapping[str, jax.Array], description: Description) -> list[str]:
  """Returns the names of arrays that are not as described; all processes must call this."""
  own = [name for name in sorted(arrays) if _is_altered(arrays[name], description[name])]
  return sorted({name for part in processes.gather(own) for name in part})


def check_form(wanted: Mapping[str, jax.ShapeDtypeStruct], description: Description) -> None:
  """Compares arrays with those of a checkpoint whose description is intact.

  Raises:
    ValueError: if names, shapes or dtypes differ: that is no damage, but other code.
  """
  here = {name: f'{leaf.dtype}{list(leaf.shape)}' for name, leaf in wanted.items()}
  there = {name: f'{leaf["dtype"]}{leaf["shape"]}' for name, leaf in description.items()}
  wrong = [
    f'{name}: {there.get(name, "absent")} there, {here.get(name, "absent")} here'
    for name in differences(here, there)
  ]
  if wrong:
    raise ValueError(
      f'the checkpoint has other arrays than the run ({_some(wrong)}): the code has changed; give '
      'another workdir'
    )


def _some(items: Iterable[str]) -> str:
  items = list(items)
  return '; '.join(items[:4]) + ('; ...' if len(items) > 4 else '')


def _path(path: tuple[Any, ...], root: str = '') -> str:
  return '.'.join(filter(None, [root, jax.tree_util.keystr(path, simple=True, separator='.')]))


def _data(leaf: Any) -> Any:
  return jax.random.key_data(leaf) if is_key(leaf) else leaf


def _digests(array: jax.Array, *, owned: bool) -> dict[str, str]:
  shards = [shard for shard in array.addressable_shards if not owned or shard.replica_id == 0]
  parts = {_range(shard.index, array.shape): shard.data for shard in shards}  # replicas once
  return {where: _digest(np.asarray(part)) for where, part in parts.items()}


def _is_altered(array: jax.Array, described: Mapping[str, Any]) -> bool:
  ranges = described['ranges']
  if list(array.shape) != described['shape'] or str(array.dtype) != described['dtype']:
    return True
  held = array.sharding.devices_indices_map(array.shape).values()
  if {_range(index, array.shape) for index in held} == set(ranges):  # as it was written
    return any(ranges[where] != digest for where, digest in _digests(array, owned=False).items())
  whole = processes.whole(array)
  return any(_digest(whole[_index(where)]) != digest for where, digest in ranges.items())


def _range(index: tuple[slice, ...], shape: tuple[int, ...]) -> str:
  bounds = [part.indices(size)[:2] for part, size in zip(index, shape, strict=True)]
  return ','.join(f'{start}:{stop}' for start, stop in bounds)


def _index(where: str) -> tuple[slice, ...]:
  return tuple(slice(*map(int, part.split(':'))) for part in where.split(',') if part)


def _digest(values: np.ndarray) -> str:
  content = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
  return hashlib.sha256(content.data).hexdigest()
