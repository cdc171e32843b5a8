"""Small learners that serve users, of random parameters."""

import functools
import inspect

import jax
import numpy as np

from metapers import learners
from metapers.core import population
from metapers.io import leaves
from metapers.serving import exports
from metapers.serving.personalizer import Personalizer

D, CAPACITY = 4, 8


def export(name, **changes):
  known = inspect.signature(learners.factory(name)).parameters
  sizes = {'num_features': D, 'num_users': 3, 'num_histories': 3, 'history_length': 4}
  kwargs = {size: number for size, number in sizes.items() if size in known}
  params = learners.make(name, **kwargs).init(jax.random.key(0))
  if name in ('lookup', 'copl'):  # as after training: without known users they predict as `pooled`
    heads = jax.random.normal(jax.random.key(1), (3, D))
    params['bank'] |= {'heads': heads, 'is_used': jax.numpy.ones(3)}
  if name == 'item_neighbors':
    params['weights'] = jax.random.normal(jax.random.key(1), (D, D))
  scaling = population.unscaled(D)
  return exports.Export(name, kwargs, leaves.named(params), 3, scaling)._replace(**changes)


@functools.cache
def served(name):
  return Personalizer(export(name), capacity=CAPACITY)


def draw(*size, seed=0):
  return np.random.default_rng(seed).normal(size=(*size, D)).astype(np.float32)


def same(first, second):
  jax.tree.map(np.testing.assert_array_equal, first, second)


def close(first, second):
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), first, second)
