from typing import NamedTuple

import evaluation_sets
import jax
import jax.numpy as jnp
import pytest

from metapers.analysis import costs
from metapers.core import meta_learner, task
from metapers.core.task import Candidates
from metapers.core.types import Array


def learner_of(num_turns):
  """A state of 3 floats and a flag, found in `num_turns` products of matrices."""

  def init(key):
    del key
    return {'matrix': jnp.eye(64), 'bias': jnp.zeros(3)}

  def adapt(params, support, context, key):
    del context, key
    start = jnp.full((64, 64), support.candidates.features.sum())
    turned = jax.lax.fori_loop(0, num_turns, lambda _, x: params['matrix'] @ x, start)
    return {'preference': turned[0, :3] + params['bias'], 'is_known': support.mask.any()}

  def score(params, user_state, candidates):
    del params
    return candidates.features @ user_state['preference']

  return meta_learner.from_adapt_score(init, adapt, score)


def measure(learner, *, tasks=None, **kwargs):
  tasks = tasks or evaluation_sets.users(num_users=8, num_queries=4)[0]
  params = learner.init(jax.random.key(0))
  return costs.measure(learner, params, tasks, key=jax.random.key(1), **kwargs)


def test_parameters_and_bytes_are_counted_by_hand():
  found = measure(learner_of(0))
  assert found.num_parameters == 64 * 64 + 3
  assert found.state_bytes == 3 * 4 + 1
  assert (found.batch_size, found.num_comparisons) == (8, 4)
  assert found.device == jax.devices()[0].device_kind


def test_features_and_contexts_in_several_arrays_are_costed():
  def adapt(params, support, context, key):
    del params, key
    return support.candidates.features['tokens'].sum((0, 1)) + context['age']

  def score(params, user_state, candidates):
    del params
    return candidates.features['tokens'] @ user_state

  tasks, _ = evaluation_sets.users(num_users=6, num_queries=4)
  candidates = Candidates({'tokens': jnp.ones((6, 4, 2, 7), int)}, jnp.ones((6, 4, 2), bool))
  support = task.choices(candidates, tasks.support.choice)
  several = tasks._replace(support=support, query=support, context={'age': jnp.ones((6, 7), int)})
  learner = meta_learner.from_adapt_score(lambda key: (), adapt, score)
  found = measure(learner, tasks=several, num_calls=1)
  assert (found.num_parameters, found.state_bytes, found.batch_size) == (0, 7 * 4, 6)


def test_much_more_work_takes_several_times_as_long():
  few, many = (measure(learner_of(turns), num_calls=3) for turns in (30, 600))
  assert 3 * few.microseconds < many.microseconds


def test_the_time_is_the_median_call_shared_by_the_users_of_the_batch(monkeypatch):
  seconds = iter([0.004, 5.0, 0.001])
  monkeypatch.setattr(costs, 'time_once', lambda *arguments: next(seconds))
  found = measure(learner_of(0), batch_size=2, num_calls=3)
  assert found.batch_size == 2
  assert found.microseconds == pytest.approx(2000)


def test_nothing_to_time_is_refused():
  with pytest.raises(ValueError, match='0 calls'):
    measure(learner_of(0), num_calls=0)


class Mean(NamedTuple):
  mean: Array


def test_of_a_posterior_mean_the_share_of_dimensions_that_differ_between_users_is_told():
  def adapt(params, support, context, key):
    del params, context, key
    first = support.candidates.features[0, 0, 0]  # differs between users
    return Mean(jnp.stack([first, 0.05 * first, jnp.zeros(()), jnp.ones(())]))

  def score(params, user_state, candidates):
    del params
    return candidates.features.sum(-1) * user_state.mean[0]

  learner = meta_learner.from_adapt_score(lambda key: (), adapt, score)
  assert measure(learner, num_calls=1).active_units == 0.25
  assert measure(learner_of(0), num_calls=1).active_units is None
