"""Where arrays lie: one mesh axis over users, and a rule for what is not replicated."""

from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from metapers.core.types import Callable, PyTree
from metapers.io import leaves

AXIS = 'tasks'

Rule = Callable[[str, Any], PartitionSpec]


def task_mesh() -> Mesh:
  """Returns all devices along the one axis over users."""
  return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))


def replicated(name: str, leaf: Any) -> PartitionSpec:
  """Returns the spec of an array that every device holds whole: the default rule.

  A rule is given the dotted path of an array ('params.base.w', 'arrays.rewards') and the array.
  """
  del name, leaf
  return PartitionSpec()


def place(tree: PyTree, mesh: Mesh, rule: Rule = replicated, *, root: str = '') -> PyTree:
  """Returns the arrays laid out over a mesh; on a single device they are the same buffers.

  Args:
    tree: pytree of arrays.
    mesh: of devices.
    rule: `(name, leaf) -> PartitionSpec`.
    root: what names begin with: 'params' or 'arrays'.

  Raises:
    ValueError: for a spec that does not fit its array or the mesh, naming the array.
  """
  named, structure = leaves.by_path(tree, root), jax.tree.structure(tree)
  return jax.tree.unflatten(
    structure, [_put(name, leaf, mesh, rule(name, leaf)) for name, leaf in named.items()]
  )


def place_like_params(optimizer_state: PyTree, params: PyTree, mesh: Mesh) -> PyTree:
  """Returns an optimizer's state with the moments of each parameter laid out as the parameter is.

  A moment is an array of the parameter's shape whose path ends with the parameter's; all else is
  replicated. (`optax.tree.map_params` does not know states with masks, as of `multi_transform`.)
  """
  placed = sorted(leaves.by_path(params).items(), key=lambda item: -len(item[0]))

  def rule(name, leaf):
    for path, param in placed:  # the longest first: 'base.w' before 'w'
      if f'.{name}'.endswith(f'.{path}' if path else '') and param.shape == leaf.shape:
        return param.sharding.spec
    return PartitionSpec()

  return place(optimizer_state, mesh, rule)


def shard(tree: PyTree, mesh: Mesh, *, axis: int) -> PyTree:
  """Divides axis number `axis` of every array over the users' mesh axis, inside jit."""
  sharding = NamedSharding(mesh, PartitionSpec(*[None] * axis, AXIS))
  return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, sharding), tree)


def fetch(tree: PyTree) -> PyTree:
  """Returns host copies; what other processes hold a part of stays on the devices.

  What is on the host already is not copied.
  """

  def get(x):
    if not isinstance(x, jax.Array):
      return x
    return jax.device_get(x) if x.is_fully_addressable or x.is_fully_replicated else x

  return jax.tree.map(get, tree)


def _put(name: str, leaf: Any, mesh: Mesh, spec: PartitionSpec) -> jax.Array:
  try:
    sharding = NamedSharding(mesh, spec)
    if leaves.is_key(leaf):
      # Keys themselves cannot be put on the devices of other processes.
      data = jax.device_put(jax.random.key_data(leaf), sharding)
      return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    return jax.device_put(leaf, sharding)
  except ValueError as error:
    raise ValueError(f'the sharding {spec} does not fit {name}: {error}') from error
