"""Copied users are found, and users drawn apart are not copies."""

import numpy as np
import pytest

from metapers.evaluation.leaks import user_checks
from metapers.populations import simulated_users


def weights(concentration, num_models=10, seeds=(0, 1)):
  return {
    name: simulated_users.draw_weights(np.random.default_rng(seed), size, concentration, num_models)
    for name, size, seed in (('train', 2**15, seeds[0]), ('test', 2000, seeds[1]))
  }


@pytest.mark.parametrize('num_models', [3, 10])
@pytest.mark.parametrize('concentration', [0.001, 0.01, 0.1, 1.0, 100.0])
def test_users_drawn_apart_are_not_copies(concentration, num_models):
  assert user_checks.shared_users(weights(concentration, num_models)) == []


def test_corners_drawn_apart_are_not_copies():
  rng = np.random.default_rng(0)
  corners = {name: np.eye(10)[rng.integers(10, size=500)] for name in ('train', 'test')}
  assert user_checks.shared_users(corners) == []


@pytest.mark.parametrize('concentration', [0.01, 1.0])
def test_one_copied_user_is_found(concentration):
  users = weights(concentration)
  users['test'][7] = users['train'][[np.argmax(user_checks.is_distinctive(users['train']))]]
  [leak] = user_checks.shared_users(users)
  assert leak.kind == 'users'
  assert leak.message.startswith('1 of 2000 test users')


def test_copies_are_found_after_storing_and_normalising_again():
  users = weights(0.05)
  again = users['train'][5000:6000] * np.float32(3.1)
  users['test'] = (again / again.sum(-1, keepdims=True)).astype(np.float32)
  [leak] = user_checks.shared_users(users)
  assert int(leak.message.split()[0]) > 950


def test_one_seed_for_two_splits_is_found_even_among_corners():
  users = np.eye(10)[np.random.default_rng(0).integers(10, size=500)]
  [leak] = user_checks.shared_users({'train': users, 'test': users[:100]})
  expected = 'the first 100 test users are the first train users, in their order'
  assert leak.message.startswith(expected)
