"""Any pytree of arrays as named numpy arrays and back, with a checksum of each."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core.types import PyTree


def named(state: PyTree) -> dict[str, np.ndarray]:
  """Copies the arrays of a pytree, PRNG keys as their data, by the path to each."""
  # Orbax refuses arrays without entries, such as weights of a context of width 0.
  found, _ = jax.tree_util.tree_flatten_with_path(state)
  return {_name(path): _plain(leaf) for path, leaf in found if leaf.size}


def like(old: PyTree, leaves: Mapping[str, np.ndarray]) -> PyTree:
  """Puts named arrays into the structure of another pytree, whose own arrays are not used."""

  def revive(path, leaf):
    if not leaf.size:
      return leaf
    new = jnp.asarray(leaves[_name(path)])
    return jax.random.wrap_key_data(new, impl=jax.random.key_impl(leaf)) if _is_key(leaf) else new

  return jax.tree_util.tree_map_with_path(revive, old)


def checksums(leaves: Mapping[str, np.ndarray]) -> dict[str, str]:
  """Returns the sha256 of dtype, shape and bytes of each array."""

  def checksum(array):
    array = np.ascontiguousarray(array)
    described = f'{array.dtype} {array.shape} '.encode()
    return hashlib.sha256(described + array.tobytes()).hexdigest()

  return {name: checksum(np.asarray(leaf)) for name, leaf in leaves.items()}


def differences(actual: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
  """Returns the names under which two mappings differ."""
  names = sorted(set(actual) | set(expected))
  return [name for name in names if actual.get(name) != expected.get(name)]


def _name(path: tuple[Any, ...]) -> str:
  return jax.tree_util.keystr(path, simple=True, separator='.')


def _plain(leaf: Any) -> np.ndarray:
  # A copy: on a CPU the view would be of a buffer that the next step is given to write to.
  return np.array(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _is_key(leaf: Any) -> bool:
  return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def check_names(wanted: Iterable[str], stored: Iterable[str]) -> None:
  """Compares the names of leaves with those in a checkpoint whose description is whole.

  Raises:
    ValueError: if they differ: that is no damage, but other code.
  """
  gone, new = sorted(set(stored) - set(wanted)), sorted(set(wanted) - set(stored))
  if gone or new:
    raise ValueError(
      f'the checkpoint has other arrays than the run (only there: {", ".join(gone[:3]) or "none"}; '
      f'only here: {", ".join(new[:3]) or "none"}): the code has changed; give another workdir'
    )
