"""How many operations the products of a program take, counted in what it is traced to."""

import functools
import math

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr

from metapers.bench.speed import workload
from metapers.bench.speed.workload import Case
from metapers.core import task
from metapers.core.meta_learner import MetaLearner
from metapers.core.task import Candidates, Task
from metapers.core.types import Any


@functools.cache
def of_user(case: Case) -> int:
  """Returns the operations of one user's loss and gradient in products, as the library does them.

  Sums and functions of single numbers are left out, which decide where features are few.
  """
  learner = workload.learner_of(case)
  shown = jax.eval_shape(lambda: one_user(case))
  params = jax.eval_shape(learner.init, jax.random.key(0))
  if case.row != workload.ALONE:
    return of_loss(learner, params, shown)
  adapt = jax.make_jaxpr(learner.adapt)(params, shown.support, shown.context, jax.random.key(0))
  return of_program(adapt.jaxpr)


def of_loss(learner: MetaLearner, params: Any, shown: Task) -> int:
  """Returns the operations in products of a loss and its gradient, of one user."""
  gradient = jax.value_and_grad(learner.loss, has_aux=True)
  return of_program(jax.make_jaxpr(gradient)(params, shown, jax.random.key(0)).jaxpr)


def one_user(case: Case) -> Task:
  """Returns comparisons of one user of a case."""

  def choices(count):
    features = jnp.zeros((count, 2, case.features), jnp.float32)
    candidates = Candidates(features, jnp.ones((count, 2), bool))
    return task.choices(candidates, jnp.zeros(count, jnp.int32))

  return Task(choices(case.support), choices(case.query), jnp.int32(0), task.no_context())


def of_program(program: Jaxpr) -> int:
  """Returns 2 m n k of every product, as often as a loop of known length repeats it."""
  total = 0
  for equation in program.eqns:
    if equation.primitive.name == 'dot_general':
      (contracted, _), _ = equation.params['dimension_numbers']
      shape, made = _shape(equation.invars[0]), _shape(equation.outvars[0])
      total += 2 * math.prod(shape[axis] for axis in contracted) * math.prod(made)
    times = equation.params.get('length', 1) if equation.primitive.name == 'scan' else 1
    total += times * sum(of_program(inner) for inner in _inner(equation.params))
  return total


def _shape(variable: Any) -> tuple[int, ...]:
  return variable.aval.shape


def _inner(params: dict[str, Any]) -> list[Jaxpr]:
  found = jax.tree.leaves(params, is_leaf=lambda value: isinstance(value, ClosedJaxpr | Jaxpr))
  closed = [value.jaxpr if isinstance(value, ClosedJaxpr) else value for value in found]
  return [value for value in closed if isinstance(value, Jaxpr)]
