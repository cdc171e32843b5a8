"""Networks as two pure functions on plain nested dicts; flax.nnx stays behind this door."""

from typing import NamedTuple

from flax import nnx

from metapers.core.types import Any, Callable, Params, PRNGKey


class Network(NamedTuple):
  """init: `(key) -> params`, a nested dict of arrays. apply: `(params, *inputs) -> outputs`.

  Meta-learning edits parameters as data (adapts a subtree, subtracts two, maps one and broadcasts
  another), hence plain dicts.
  """

  init: Callable[[PRNGKey], Params]
  apply: Callable[..., Any]


def from_module(build: Callable[[nnx.Rngs], nnx.Module]) -> Network:
  """Returns a stateless flax.nnx module as a `Network`.

  Args:
    build: makes the module from random streams; called abstractly, and once per `init`.
  """

  def init(key):
    return _string_keys(nnx.to_pure_dict(nnx.state(build(nnx.Rngs(key)), nnx.Param)))

  return Network(init, method(build, lambda module, *inputs: module(*inputs)))


def method(build: Callable[[nnx.Rngs], nnx.Module], call: Callable[..., Any]) -> Callable[..., Any]:
  """Returns `(params, *inputs) -> call(module, *inputs)` of the module with these parameters.

  Parameters that the call does not read may be left out.

  Args:
    build: makes the module from random streams; called abstractly.
    call: one of its methods.
  """
  graph, abstract = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(0))))

  def apply(params, *inputs):
    state = nnx.clone(abstract)
    nnx.replace_by_pure_dict(state, params)
    return call(nnx.merge(graph, state), *inputs)

  return apply


def _string_keys(tree):
  # Checkpoints store keys as strings; integers (positions in nnx.List) would not come back.
  if not isinstance(tree, dict):
    return tree
  return {str(name): _string_keys(child) for name, child in tree.items()}
