"""Histories and profiles made of random numbers."""

import jax
import numpy as np

from metapers.serving.profiles import History, Profile

K, D = 2, 3
MODEL = 'f' * 64


def history(ids, seed=0):
  rng = np.random.default_rng(seed)
  size = np.shape(ids)
  features = rng.normal(size=(*size, K, D)).astype(np.float16)
  choice = rng.integers(0, K, size).astype(np.int32)
  return History(np.asarray(ids, np.int64), choice, features, np.ones((*size, K), bool))


def profile(people=()):
  state = {'mean': np.ones((*people, 4), np.float32), 'empty': np.zeros((*people, 0, 2))}
  return Profile(history(np.broadcast_to(np.arange(5), (*people, 5))), state, MODEL)


def same(first, second):
  jax.tree.map(np.testing.assert_array_equal, first, second)
