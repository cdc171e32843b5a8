"""What functions compute, as bytes: by these two of them are told to be one program or not."""

import inspect
import re
from collections.abc import Iterator

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

from metapers.core.types import Any, Callable, PyTree

ADDRESS = re.compile(r'0x[0-9a-f]+')  # of a function, as Python prints it: not of its program


def program(function: Callable, *arguments: PyTree) -> bytes:
  """Returns what a function is traced to: its program, and the arrays that it closes over.

  Each call traces it anew, but for what `jit` inside it has traced before.

  Args:
    function: of JAX.
    arguments: arrays, or their shapes and dtypes.
  """
  traced = jax.make_jaxpr(lambda *given: function(*given))(*arguments)
  return text(str(traced)) + content(list(_constants(traced)))


def source(function: Callable) -> bytes:
  """Returns the source of a function and the values that it closes over; b'' without any."""
  try:
    found = inspect.getsource(function), inspect.getclosurevars(function).nonlocals
  except (OSError, TypeError):
    return b''
  return text(str(found))


def text(printed: str) -> bytes:
  """Returns a text without the addresses of functions."""
  return ADDRESS.sub('', printed).encode()


def content(tree: PyTree) -> bytes:
  """Returns dtypes, shapes and bytes of arrays."""
  leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
  return b''.join(f'{leaf.dtype}{leaf.shape}'.encode() + leaf.tobytes() for leaf in leaves)


def _constants(found: Any) -> Iterator[Any]:
  """Yields the arrays that a program and the programs inside it close over."""
  if isinstance(found, ClosedJaxpr):
    yield from found.consts
    yield from _constants(found.jaxpr)
  elif isinstance(found, Jaxpr):
    for equation in found.eqns:
      for inner in jax.tree.leaves(equation.params, is_leaf=_is_program):
        yield from _constants(inner)


def _is_program(value: Any) -> bool:
  return isinstance(value, ClosedJaxpr | Jaxpr)
