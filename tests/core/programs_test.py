import functools
import types

import jax
import numpy as np
import pytest

from metapers.core import programs


def by_default(scale):
  def prepare(params, factor=scale):
    return params * factor

  return prepare


CONSTANT = 1.0


def reads_a_constant(params):
  return params * CONSTANT


def by_keyword(scale):
  def prepare(params, *, factor=scale):
    return params * factor

  return prepare


class Own:
  """Scales by what it holds; `itself` closes a circle."""

  def __init__(self, scale):
    self.scale = scale
    self.itself = self.prepare

  def prepare(self, params):
    return params * self.scale

  def __call__(self, params):
    return self.prepare(params)


MAKERS = [
  by_default,
  by_keyword,
  Own,
  lambda scale: Own(scale).prepare,
  lambda scale: functools.partial(Own(scale).prepare, 3.0),
  lambda scale: by_default(Own(scale)),
]


@pytest.mark.parametrize('make', MAKERS)
@pytest.mark.parametrize('scales', [(1.0, 2.0), (np.zeros(2), np.ones(2))])
def test_what_a_function_reads_beside_its_arguments_is_of_its_source(make, scales):
  first, second = scales
  assert programs.source(make(first)) == programs.source(make(first))
  assert programs.source(make(first)) != programs.source(make(second))


@pytest.mark.parametrize(
  'values', [(1.0, 2.0), ('a', 'b'), ((1, 2), (1, 3)), (np.zeros(2), np.ones(2))]
)
def test_constants_of_a_functions_module_are_of_its_source(values):
  first, second = ({'CONSTANT': value} for value in values)
  same = types.FunctionType(reads_a_constant.__code__, first)
  assert programs.source(same) == programs.source(types.FunctionType(same.__code__, dict(first)))
  assert programs.source(same) != programs.source(types.FunctionType(same.__code__, second))


def test_methods_that_a_method_calls_are_of_its_source():
  class Other(Own):
    def prepare(self, params):
      return params + self.scale

  assert programs.source(Own(1.0).__call__) != programs.source(Other(1.0).__call__)


def test_a_decorated_function_has_the_source_of_what_is_decorated():
  function = by_default(1.0)
  assert programs.source(jax.jit(function)) == programs.source(function)
  assert programs.source(functools.cache(function)) == programs.source(function)
