"""Histories and profiles made of random numbers."""

import jax
import numpy as np

from metapers.serving.profiles import History, Profile

K, D, C = 2, 3, 2
MODEL = 'f' * 64


def history(ids, seed=0):
  rng = np.random.default_rng(seed)
  size = np.shape(ids)
  features = rng.normal(size=(*size, K, D)).astype(np.float16)
  choice = rng.integers(0, K, size).astype(np.int32)
  weight = rng.integers(1, 4, size).astype(np.float32)
  return History(np.asarray(ids, np.int64), choice, features, np.ones((*size, K), bool), weight)


def profile(users=()):
  state = {'mean': np.ones((*users, 4), np.float32), 'empty': np.zeros((*users, 0, 2))}
  context = np.full((*users, C), 0.5, np.float32)
  return Profile(history(np.broadcast_to(np.arange(5), (*users, 5))), context, state, MODEL)


def same(first, second):
  jax.tree.map(np.testing.assert_array_equal, first, second)
