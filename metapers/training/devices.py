"""How training is laid out over devices: where arrays lie, who is where, and what compiles it."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from metapers.core.types import Array, Callable, Int, PyTree
from metapers.io import leaves

AXIS = 'tasks'
PARALLEL = ('jit', 'pmap')
OF_PROMPTS = ('arrays.features', 'arrays.rewards')  # the large arrays of a population of prompts

Rule = Callable[[str, Any], PartitionSpec]


def replicated(name: str, leaf: Any) -> PartitionSpec:
  """Returns the spec of an array that every device holds whole: the default rule.

  A rule is given the dotted path of an array ('params.base.w', 'arrays.rewards') and the array.
  """
  del name, leaf
  return PartitionSpec()


def by_prompt(name: str, leaf: Any) -> PartitionSpec:
  """Divides features and rewards of prompts (or items) over the devices, and nothing else.

  Items known by their numbers, [I, 0], stay whole: no bytes, whose rows are counted.
  """
  is_large = leaf.size and any(f'{name}.'.startswith(f'{each}.') for each in OF_PROMPTS)
  return PartitionSpec(AXIS) if is_large else PartitionSpec()


class Placement(NamedTuple):
  """How one run is laid out over devices; `placement` makes one.

  What a step does to the users of a batch is written once, for both kinds of programs: `own_users`
  names those that a program draws, `gathered` joins what it has of them with what others have.
  Gradients are never taken through either, so that those of one user's adaptation see that user
  only.

  mesh: of devices, with an axis AXIS over users.
  parallel: 'jit', one program that the compiler divides, or 'pmap', one for each device.
  rule: which arrays are divided, `(name, leaf) -> PartitionSpec`.
  """

  mesh: Mesh
  parallel: str = 'jit'
  rule: Rule = replicated

  @property
  def num_devices(self) -> int:
    """How many devices share the users of a batch."""
    return self.mesh.shape[AXIS]

  @property
  def everywhere(self) -> NamedSharding:
    """How an array lies that every device holds whole."""
    return NamedSharding(self.mesh, PartitionSpec())

  @property
  def num_programs(self) -> int:
    """Into how many programs a batch is divided before it is drawn."""
    return self.num_devices if self.parallel == 'pmap' else 1

  @property
  def devices_a_program(self) -> int:
    """How many devices share the users that one program draws."""
    return self.num_devices // self.num_programs

  def own_users(self, batch_size: int) -> Int[Array, 'T']:
    """Returns the numbers in the batch of the users that the program draws, in a step."""
    size = batch_size // self.num_programs
    first = jax.lax.axis_index(AXIS) * size if self.parallel == 'pmap' else 0
    return first + jnp.arange(size)

  def divide(self, tree: PyTree, *, axis: int) -> PyTree:
    """Divides axis number `axis` of every array over the devices, in a step."""
    if self.parallel == 'pmap':
      return tree
    sharding = NamedSharding(self.mesh, PartitionSpec(*[None] * axis, AXIS))
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, sharding), tree)

  def gathered(self, own: Array) -> Array:
    """Returns [T, ...] of all users from that of the program's own ones, in a step."""
    return jax.lax.all_gather(own, AXIS, tiled=True) if self.parallel == 'pmap' else own

  def own(self, all_users: Array) -> Array:
    """Returns what `gathered` joined: the part of the program's own users."""
    return all_users[self.own_users(len(all_users))] if self.parallel == 'pmap' else all_users

  def added(self, tree: PyTree) -> PyTree:
    """Returns sums over the programs, in a step."""
    return jax.lax.psum(tree, AXIS) if self.parallel == 'pmap' else tree

  def averaged(self, tree: PyTree) -> PyTree:
    """Returns means over the programs, in a step."""
    return jax.lax.pmean(tree, AXIS) if self.parallel == 'pmap' else tree

  def place(self, tree: PyTree, root: str) -> PyTree:
    """Returns the arrays where the rule says; `root` is 'params' or 'arrays'."""
    return place(tree, self.mesh, self.rule, root=root)

  def compile(self, run: Callable, state: PyTree) -> Callable:
    """Returns compiled `run(state, *given) -> (state, rest)`: the one place that compiles a step.

    The state is donated, and comes back laid out as it was; `rest` is on all devices.
    """
    if self.parallel == 'pmap':
      return self._one_program_a_device(run)
    shardings = jax.tree.map(lambda x: x.sharding, state)
    return jax.jit(run, donate_argnums=0, out_shardings=(shardings, self.everywhere))

  def _one_program_a_device(self, run: Callable) -> Callable:
    numbers = jnp.arange(len(self.mesh.local_devices))  # pmap wants something to map over
    mapped = jax.pmap(
      lambda number, state, given: run(state, *given),
      axis_name=AXIS,
      in_axes=(0, None, None),
      out_axes=None,  # the programs agree on every output
      devices=list(self.mesh.devices.flat),
      donate_argnums=1,
    )
    return lambda state, *given: self._over_all_hosts(mapped(numbers, state, given))

  def _over_all_hosts(self, tree: PyTree) -> PyTree:
    """Returns arrays that this host has as arrays that all hosts have: pmap knows its own only."""
    if self.mesh.is_multi_process:
      return jax.tree.map(functools.partial(_replica_of_all, mesh=self.mesh), tree)
    return tree


def placement(
  parallel: str = 'jit', *, mesh: Mesh | None = None, rule: Rule = replicated
) -> Placement:
  """Returns how a run is laid out over devices.

  Args:
    parallel: 'jit' or 'pmap'.
    mesh: of devices, with an axis AXIS over users; by default all along it.
    rule: which arrays are divided.

  Raises:
    ValueError: for another kind, or pmap with divided arrays or further axes.
  """
  if parallel not in PARALLEL:
    raise ValueError(f'parallel must be one of {", ".join(PARALLEL)}, got {parallel!r}')
  if parallel == 'pmap' and rule is not replicated:
    raise ValueError("parallel='pmap' holds every array whole on each device: take parallel='jit'")
  made = Placement(task_mesh() if mesh is None else mesh, parallel, rule)
  if parallel == 'pmap' and made.num_devices != made.mesh.size:
    raise ValueError(
      f"parallel='pmap' takes a mesh of the one axis {AXIS!r}, got {made.mesh.shape}"
    )
  return made


def task_mesh() -> Mesh:
  """Returns all devices along the one axis over users."""
  return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))


def padded(tree: PyTree, given: Placement, root: str) -> PyTree:
  """Returns arrays whose leading axis, where the rule divides it, does so evenly: zeros follow.

  For the arrays of a population, whose rows are named by their numbers: nobody names the new ones.
  """

  def pad(name, leaf):
    if given.rule(name, leaf)[:1] != (AXIS,):
      return leaf
    missing = -len(leaf) % given.num_devices
    return jnp.pad(leaf, ((0, missing), *[(0, 0)] * (leaf.ndim - 1))) if missing else leaf

  named, structure = leaves.by_path(tree, root), jax.tree.structure(tree)
  return jax.tree.unflatten(structure, [pad(*item) for item in named.items()])


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
    return _on_data(lambda data: jax.device_put(data, NamedSharding(mesh, spec)), leaf)
  except ValueError as error:
    raise ValueError(f'the sharding {spec} does not fit {name}: {error}') from error


def _replica_of_all(leaf: jax.Array, mesh: Mesh) -> jax.Array:
  def join(data):
    return multihost_utils.host_local_array_to_global_array(data, mesh, PartitionSpec())

  return _on_data(join, leaf)


def _on_data(function: Callable, leaf: Any) -> jax.Array:
  """Calls a function on an array; keys themselves cannot be put on devices of other processes."""
  if not leaves.is_key(leaf):
    return function(leaf)
  data = function(jax.random.key_data(leaf))
  return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
