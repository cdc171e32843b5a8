"""What functions compute, as bytes: by these two of them are told to be one program or not."""

import functools
import inspect
import re
from collections.abc import Iterator

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

from metapers.core.types import Any, Callable, PyTree

# What a name of a module is bound to once; a list or a dictionary may be filled as a program runs.
CONSTANT = bool | int | float | complex | str | bytes | tuple | frozenset | np.ndarray | jax.Array
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
  """Returns the source of a function, of what it calls, and the values that they close over.

  What it calls counts where the function closes over it, or where its own module has it. Values of
  default arguments count, and so do those of the object that a method is of, or that is called, and
  constants of its module: numbers, texts, tuples and arrays.
  """
  return b'\0'.join(_sources(function, set()))


def text(printed: str) -> bytes:
  """Returns a text without the addresses of functions."""
  return ADDRESS.sub('', printed).encode()


def content(tree: PyTree) -> bytes:
  """Returns dtypes, shapes and bytes of arrays."""
  leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
  return b''.join(f'{leaf.dtype}{leaf.shape}'.encode() + leaf.tobytes() for leaf in leaves)


def _sources(value: Any, seen: set[int]) -> Iterator[bytes]:
  """Yields the parts of `source` of a function or a value that it closes over."""
  value = _opened(value, seen)
  if inspect.isfunction(value):
    if id(value) not in seen:
      seen.add(id(value))
      yield from _sources_of_function(value, seen)
  elif isinstance(value, dict):
    for name, inner in value.items():
      yield from (text(str(name)), *_sources(inner, seen))
  elif isinstance(value, tuple | list | set | frozenset):
    for inner in sorted(value, key=str) if isinstance(value, set | frozenset) else value:
      yield from _sources(inner, seen)
  elif isinstance(value, np.ndarray | jax.Array):
    yield content(value)
  else:
    yield text(str(value))


def _opened(value: Any, seen: set[int]) -> Any:
  """Returns what is called, and with what: of partial functions, methods and other callables."""
  if isinstance(value, functools.partial):
    return value.func, value.args, value.keywords
  value = inspect.unwrap(value) if callable(value) else value  # `jax.jit` and decorators wrap
  if inspect.ismethod(value):
    return value.__func__, _state(value.__self__, seen)
  if callable(value) and not inspect.isfunction(value):
    return _state(value, seen)
  return value


def _state(value: Any, seen: set[int]) -> Any:
  """Returns an object's methods and what it holds, once; a class as it is."""
  if inspect.isclass(value) or not hasattr(value, '__dict__'):
    return value
  if id(value) in seen:  # it may hold a method of its own
    return ()
  seen.add(id(value))
  return dict(inspect.getmembers(type(value), inspect.isfunction)), vars(value)


def _sources_of_function(function: Callable, seen: set[int]) -> Iterator[bytes]:
  if function.__defaults__ or function.__kwdefaults__:
    yield from _sources((function.__defaults__, function.__kwdefaults__), seen)
  try:
    yield text(inspect.getsource(function))
    found = inspect.getclosurevars(function)
  except (OSError, TypeError, ValueError):  # typed at a prompt, or closes over what is not yet set
    return
  own = {
    name: value
    for name, value in found.globals.items()
    if isinstance(value, CONSTANT)
    or (callable(value) and getattr(value, '__module__', None) == function.__module__)
  }
  yield from _sources({**found.nonlocals, **own}, seen)


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
