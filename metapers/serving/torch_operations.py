"""JAX's operations in PyTorch: `run` computes a traced program on tensors.

What depends on no tensor JAX itself computes: parameters, draws of a fixed key.
"""

import functools
import string
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
import torch
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun
from torch import Tensor

from metapers.core.types import Any, Callable

TYPES = {
  np.dtype('bool'): torch.bool, np.dtype('int32'): torch.int32, np.dtype('int64'): torch.int64,
  np.dtype('float16'): torch.float16, np.dtype('float32'): torch.float32,
}  # fmt: skip
CALLS = {'jit': 'jaxpr', 'custom_jvp_call': 'call_jaxpr', 'custom_vjp_call': 'call_jaxpr'}
Mode = jax.lax.GatherScatterMode


class Slices(NamedTuple):
  """Slices of an array. index: for each of its axes, [*batch, *window].

  is_inside: [*batch, 1, ...], False for one that leaves the array; its index is moved inside.
  """

  index: tuple[Tensor, ...]
  is_inside: Tensor


def run(closed: ClosedJaxpr, given: Sequence[Any]) -> list[Any]:
  """Returns the outputs of a program; tensors, where they depend on tensors.

  Args:
    closed: the program, of fixed shapes. Its loops are unrolled.
    given: its inputs, tensors or arrays.

  Raises:
    ValueError: for an operation that is not known here, naming it.
  """
  program = closed.jaxpr
  values = dict(zip((*program.constvars, *program.invars), (*closed.consts, *given)))
  values |= by_jax(program, {name: x for name, x in values.items() if not isinstance(x, Tensor)})

  def read(variable: Any) -> Any:
    if isinstance(variable, Literal):
      kind: Any = variable.aval
      return np.asarray(variable.val, kind.dtype)
    return values[variable]

  for equation in program.eqns:
    if not all(output in values for output in equation.outvars):
      made = compute(equation, [read(variable) for variable in equation.invars])
      values.update(zip(equation.outvars, made))
  return [read(variable) for variable in program.outvars]


def by_jax(program: Jaxpr, values: dict[Any, Any]) -> dict[Any, Any]:
  """Returns what follows from known arrays alone, by variable."""
  function, outputs = known_part(program, tuple(values))
  return dict(zip(outputs, function(*values.values()))) if outputs else {}


@functools.lru_cache(maxsize=1024)  # a loop has the same part in every step
def known_part(program: Jaxpr, inputs: tuple[Any, ...]) -> tuple[Callable[..., Any], list[Any]]:
  """Returns what computes the part of a program that needs some inputs alone, and what it gives."""
  found, equations = set(inputs), []
  for equation in program.eqns:
    if all(isinstance(given, Literal) or given in found for given in equation.invars):
      found |= set(equation.outvars)
      equations.append(equation)
  outputs = [output for equation in equations for output in equation.outvars]
  part = program.replace(
    constvars=(),
    invars=list(inputs),
    outvars=outputs,
    eqns=equations,
    debug_info=program.debug_info.with_unknown_names(),
  )
  return jax.jit(jaxpr_as_fun(ClosedJaxpr(part, ()))), outputs


def compute(equation: JaxprEqn, given: list[Any]) -> Sequence[Any]:
  """Returns the outputs of one operation."""
  name, options = equation.primitive.name, equation.params
  if name in CALLS:
    return run(as_closed(options[CALLS[name]]), given)
  if name == 'scan':
    return scan(options, given)
  if name == 'custom_linear_solve':
    return solve(options, given)
  if name not in OPERATIONS:
    raise ValueError(
      f'the operation {name!r} is not known in PyTorch: add it to OPERATIONS of {__name__}, or '
      'serve this learner by the Personalizer'
    )
  made = OPERATIONS[name](equation, *map(tensor, given))
  return made if isinstance(made, tuple | list) else [made]


def as_closed(program: Jaxpr | ClosedJaxpr) -> ClosedJaxpr:
  """Returns a program with the arrays that it closes over."""
  return program if isinstance(program, ClosedJaxpr) else ClosedJaxpr(program, ())


def tensor(value: Any) -> Tensor:
  """Returns an array as a tensor."""
  return value if isinstance(value, Tensor) else torch.tensor(np.asarray(value))


def scan(options: dict[str, Any], given: list[Any]) -> list[Any]:
  """Returns the last carry of a loop, and what its steps gave, stacked."""
  first, count = options['num_consts'], options['num_carry']
  closed, carry = given[:first], given[first : first + count]
  rows, found = given[first + count :], []
  steps = range(options['length'])
  for step in reversed(steps) if options['reverse'] else steps:
    made = run(options['jaxpr'], [*closed, *carry, *(row[step] for row in rows)])
    carry = made[:count]
    found.append(made[count:])
  found = found[::-1] if options['reverse'] else found
  return [*carry, *(torch.stack([tensor(row) for row in rows]) for rows in zip(*found))]


def solve(options: dict[str, Any], given: list[Any]) -> list[Any]:
  """Returns the solution of a linear system, by the program that JAX brings for it."""
  counts = options['const_lengths']
  begin = counts.matvec + counts.vecmat
  own = given[begin : begin + counts.solve]
  return run(options['jaxprs'].solve, [*own, *given[sum(counts) :]])


def plain(function: Callable[..., Any]) -> Callable[..., Any]:
  """Returns the operation that is a function of its inputs alone."""
  return lambda equation, *given: function(*given)


def along(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
  """Returns the reduction over some axes that keeps the dtype."""

  def reduce(equation, x):
    axes = tuple(equation.params['axes'])
    return function(x, axes).to(x.dtype) if axes else x

  return reduce


def each_axis(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
  """Returns the reduction over axes, one by one."""
  return along(lambda x, axes: functools.reduce(function, sorted(axes, reverse=True), x))


def place(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
  """Returns the operation that finds an index along one axis."""

  def find(equation, x):
    (axis,) = equation.params['axes']
    plain_numbers = x.to(torch.int32) if x.dtype == torch.bool else x
    return function(plain_numbers, axis).to(type_of(equation))

  return find


def type_of(equation: Any) -> torch.dtype:
  """Returns the type of what an operation gives."""
  return TYPES[equation.outvars[0].aval.dtype]


def divide(equation: JaxprEqn, x: Tensor, y: Tensor) -> Tensor:
  """Returns x / y, without the remainder of whole numbers."""
  return x / y if x.dtype.is_floating_point else torch.div(x, y, rounding_mode='trunc')


def broadcast(equation: Any, x: Tensor, *_: Tensor) -> Tensor:
  """Returns an array with its axes at some places of a larger shape."""
  shape = equation.outvars[0].aval.shape
  sizes = [1] * len(shape)
  for axis, size in zip(equation.params['broadcast_dimensions'], x.shape):
    sizes[axis] = size
  return x.reshape(sizes).expand(shape)


def select(equation: JaxprEqn, which: Tensor, *cases: Tensor) -> Tensor:
  """Returns of each element the case of that number."""
  found = cases[0]
  for number, case in enumerate(cases[1:], 1):
    found = torch.where(which == number, case, found)
  return found


def dot(equation: JaxprEqn, x: Tensor, y: Tensor) -> Tensor:
  """Returns products summed over some axes, first the batch axes, then what is left of x and y."""
  (over_x, over_y), (batch_x, batch_y) = equation.params['dimension_numbers']
  letters = iter(string.ascii_letters)
  of_x = [next(letters) for _ in range(x.ndim)]
  same = {b: of_x[a] for a, b in zip((*over_x, *batch_x), (*over_y, *batch_y))}
  of_y = [same.get(axis) or next(letters) for axis in range(y.ndim)]
  left = [of_x[a] for a in range(x.ndim) if a not in (*over_x, *batch_x)]
  left += [of_y[b] for b in range(y.ndim) if b not in (*over_y, *batch_y)]
  out = ''.join([*(of_x[a] for a in batch_x), *left])
  return torch.einsum(f'{"".join(of_x)},{"".join(of_y)}->{out}', x, y)


def cumulative(equation: JaxprEqn, x: Tensor) -> Tensor:
  """Returns running sums along an axis."""
  axis, is_reverse = equation.params['axis'], equation.params['reverse']
  x = x.flip(axis) if is_reverse else x
  total = torch.cumsum(x, axis, dtype=x.dtype)
  return total.flip(axis) if is_reverse else total


def cut(equation: JaxprEqn, x: Tensor) -> Tensor:
  """Returns a part of an array, whose limits are fixed."""
  names = 'start_indices', 'limit_indices', 'strides'
  starts, limits, strides = (equation.params[name] for name in names)
  return x[tuple(map(slice, starts, limits, strides or [1] * x.ndim))]


def split(equation: JaxprEqn, x: Tensor) -> Sequence[Tensor]:
  """Returns an array in parts along an axis."""
  return torch.split(x, list(map(int, equation.params['sizes'])), equation.params['axis'])


def sort(equation: JaxprEqn, *arrays: Tensor) -> list[Tensor]:
  """Returns arrays in the order of the first."""
  axis = equation.params['dimension']
  if equation.params['num_keys'] != 1:
    raise ValueError('sort by several keys is not known in PyTorch here')
  order = torch.sort(arrays[0], dim=axis, stable=True).indices
  return [torch.gather(array, axis, order) for array in arrays]


def largest(equation: JaxprEqn, x: Tensor) -> list[Tensor]:
  """Returns the k largest along the last axis and where they are, the first of equals first."""
  values, order = torch.sort(x, dim=-1, stable=True, descending=True)
  count = equation.params['k']
  return [values[..., :count], order[..., :count].to(torch.int32)]


def lower_upper(equation: JaxprEqn, x: Tensor) -> list[Tensor]:
  """Returns the LU factors of a matrix in one, pivots from 0, and the permutation of its rows."""
  factors, pivots = torch.linalg.lu_factor(x)
  rows = torch.lu_unpack(factors, pivots, unpack_data=False)[0]
  return [factors, pivots - 1, rows.argmax(-2).to(torch.int32)]


def cholesky(equation: JaxprEqn, x: Tensor) -> Tensor:
  """Returns the lower Cholesky factor; NaN where there is none."""
  factor, failed = torch.linalg.cholesky_ex(x)
  return torch.where(failed[..., None, None] == 0, factor, float('nan'))


def triangular(equation: JaxprEqn, a: Tensor, b: Tensor) -> Tensor:
  """Returns the solution of a triangular system."""
  options = equation.params
  return torch.linalg.solve_triangular(
    a.mT if options['transpose_a'] else a,
    b,
    upper=options['lower'] == options['transpose_a'],
    left=options['left_side'],
    unitriangular=options['unit_diagonal'],
  )


def dynamic_slice(equation: JaxprEqn, x: Tensor, *starts: Tensor) -> Tensor:
  """Returns a slice that begins where tensors say, moved inside where it would leave the array."""
  for axis, (start, size) in enumerate(zip(starts, equation.params['slice_sizes'])):
    first = torch.clamp(start, 0, x.shape[axis] - size)
    x = torch.index_select(x, axis, first + torch.arange(size, device=x.device))
  return x


def slices_of(
  x: Tensor, indices: Tensor, window: dict[Any, Any], starts: Sequence[Any], batch: dict[Any, Any]
) -> Slices:
  """Returns where slices lie.

  Args:
    x: the array.
    indices: [*batch, I], where slices begin along I of the axes.
    window: axis of x -> length of the slices along it; 1 along the others.
    starts: those I axes.
    batch: axis of x -> axis of the batch, by whose number each slice lies there.
  """
  *sizes, _ = indices.shape
  tail = [1] * len(window)
  index, is_inside = [], torch.ones(sizes, dtype=torch.bool)
  for axis, size in enumerate(x.shape):
    length = window.get(axis, 1)
    begin = torch.zeros(sizes, dtype=torch.int64)
    if axis in starts:
      begin = indices[..., list(starts).index(axis)].to(torch.int64)
      is_inside = is_inside & (begin >= 0) & (begin <= size - length)
      begin = torch.clamp(begin, 0, size - length)
    elif axis in batch:
      shape = [-1 if each == batch[axis] else 1 for each in range(len(sizes))]
      begin = torch.arange(size).reshape(shape).expand(sizes)
    begin = begin.reshape([*sizes, *tail])
    if axis in window:
      at = [-1 if each == axis else 1 for each in window]
      begin = begin + torch.arange(length).reshape(at)
    index.append(begin)
  return Slices(tuple(index), is_inside.reshape([*sizes, *tail]))


def gather(equation: JaxprEqn, x: Tensor, indices: Tensor) -> Tensor:
  """Returns slices of an array, as XLA defines them."""
  numbers, mode = equation.params['dimension_numbers'], equation.params['mode']
  batch = dict(zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims))
  lengths = enumerate(equation.params['slice_sizes'])
  dropped = (*numbers.collapsed_slice_dims, *batch)
  window = {axis: length for axis, length in lengths if axis not in dropped}
  found = slices_of(x, indices, window, numbers.start_index_map, batch)
  values = x[found.index]
  if mode == Mode.FILL_OR_DROP:
    values = torch.where(found.is_inside, values, filling(equation, x))
  places = list(range(indices.ndim - 1, values.ndim))
  others = iter(range(indices.ndim - 1))
  offsets = dict(zip(numbers.offset_dims, places))
  return values.permute(
    [offsets[axis] if axis in offsets else next(others) for axis in range(values.ndim)]
  )


def filling(equation: JaxprEqn, x: Tensor) -> Tensor:
  """Returns what stands for a slice outside of an array."""
  value = equation.params['fill_value']
  if value is None:
    value = float('nan') if x.dtype.is_floating_point else torch.iinfo(x.dtype).min
  return torch.full((), value, dtype=x.dtype)


def scatter_add(equation: JaxprEqn, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
  """Returns an array with values added at slices, as XLA defines them."""
  numbers = equation.params['dimension_numbers']
  batch = dict(zip(numbers.operand_batching_dims, numbers.scatter_indices_batching_dims))
  dropped = (*numbers.inserted_window_dims, *batch)
  axes = [axis for axis in range(x.ndim) if axis not in dropped]
  window = {axis: updates.shape[at] for axis, at in zip(axes, numbers.update_window_dims)}
  found = slices_of(x, indices, window, numbers.scatter_dims_to_operand_dims, batch)
  first = [axis for axis in range(updates.ndim) if axis not in numbers.update_window_dims]
  values = updates.permute([*first, *numbers.update_window_dims])
  if equation.params['mode'] != Mode.CLIP:
    values = torch.where(found.is_inside, values, torch.zeros((), dtype=x.dtype))
  return torch.index_put(x, found.index, values, accumulate=True)


OPERATIONS: dict[str, Callable[..., Any]] = {
  **{
    name: plain(function)
    for name, function in {
      'abs': torch.abs, 'add': torch.add, 'add_any': torch.add, 'and': torch.bitwise_and,
      'copy': torch.clone, 'cos': torch.cos, 'eq': torch.eq, 'erf_inv': torch.erfinv,
      'exp': torch.exp, 'expm1': torch.expm1, 'ge': torch.ge, 'gt': torch.gt,
      'is_finite': torch.isfinite, 'le': torch.le, 'log': torch.log, 'log1p': torch.log1p,
      'logistic': torch.sigmoid, 'lt': torch.lt, 'max': torch.maximum, 'min': torch.minimum,
      'mul': torch.mul, 'ne': torch.ne, 'neg': torch.neg, 'not': torch.bitwise_not,
      'or': torch.bitwise_or, 'pow': torch.pow, 'rsqrt': torch.rsqrt, 'sign': torch.sign,
      'sin': torch.sin, 'sqrt': torch.sqrt, 'square': torch.square, 'stop_gradient': torch.clone,
      'sub': torch.sub, 'tanh': torch.tanh, 'xor': torch.bitwise_xor,
    }.items()
  },
  'argmax': place(torch.argmax),
  'argmin': place(torch.argmin),
  'broadcast_in_dim': broadcast,
  'cholesky': cholesky, 'lu': lower_upper,
  'clamp': lambda equation, low, x, high: torch.minimum(torch.maximum(x, low), high),
  'concatenate': lambda equation, *xs: torch.cat(xs, equation.params['dimension']),
  'convert_element_type': lambda equation, x: x.to(type_of(equation)),
  'cumsum': cumulative,
  'div': divide,
  'dot_general': dot,
  'dynamic_slice': dynamic_slice,
  'gather': gather,
  'integer_pow': lambda equation, x: torch.pow(x, equation.params['y']),
  'optimization_barrier': lambda equation, *xs: xs,
  'reduce_and': each_axis(torch.all),
  'reduce_max': along(torch.amax),
  'reduce_min': along(torch.amin),
  'reduce_or': each_axis(torch.any),
  'reduce_sum': along(torch.sum),
  'reshape': lambda equation, x, *_: x.reshape(equation.outvars[0].aval.shape),
  'rev': lambda equation, x: x.flip(equation.params['dimensions']),
  'scatter-add': scatter_add,
  'select_n': select,
  'slice': cut,
  'sort': sort,
  'split': split,
  'squeeze': lambda equation, x: x.reshape(equation.outvars[0].aval.shape),
  'stack': lambda equation, *xs: torch.stack(xs, equation.params['axis']),
  'top_k': largest,
  'transpose': lambda equation, x: x.permute(equation.params['permutation']),
  'triangular_solve': triangular,
}  # fmt: skip
