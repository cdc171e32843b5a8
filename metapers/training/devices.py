"""One mesh axis over users: tasks are sharded, arrays and parameters replicated."""

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from metapers.core.types import PyTree

AXIS = 'tasks'


def task_mesh() -> Mesh:
  """Lays all devices out along the one axis over users."""
  return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))


def replicate(tree: PyTree, mesh: Mesh) -> PyTree:
  """Puts every array on every device; on a single one the very same buffers."""
  return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def shard(tree: PyTree, mesh: Mesh, *, axis: int) -> PyTree:
  """Divides axis number `axis` of every array over the devices, inside jit."""
  sharding = NamedSharding(mesh, PartitionSpec(*[None] * axis, AXIS))
  return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, sharding), tree)
