import jax
import jax.numpy as jnp
import numpy as np

from metapers import learners
from metapers.core import task
from metapers.core.task import Candidates

KEY = jax.random.key(0)


def comparisons(num_features, num=7, seed=1):
  rng = np.random.default_rng(seed)
  features = jnp.asarray(rng.normal(size=(num, 2, num_features)), jnp.float32)
  candidates = Candidates(features, jnp.ones((num, 2), bool))
  return task.choices(candidates, jnp.asarray(rng.integers(0, 2, num), jnp.int32))


def answer(params, support, query, context=()):
  """P(k) of a query's candidates, [N, K]."""
  learner = learners.make('pfn', num_features=query.features.shape[-1], num_context=len(context))
  told = jnp.asarray(context, jnp.float32)
  state = learner.adapt(params, support, told, KEY)
  return np.exp(learner.predict(params, state, query)), state


def params_of(num_features, num_context=0):
  return learners.make('pfn', num_features=num_features, num_context=num_context).init(KEY)


def test_features_may_come_in_any_order():
  support, query = comparisons(5), comparisons(5, seed=2).candidates
  order = np.random.default_rng(0).permutation(5)
  other, shown = jax.tree.map(lambda x: x[..., order] if x.ndim == 3 else x, (support, query))
  params = params_of(5)
  first, state = answer(params, support, query)
  second, permuted = answer(params, other, shown)
  np.testing.assert_allclose(first, second, atol=1e-6)
  np.testing.assert_allclose(state.heads[:, order], permuted.heads, atol=1e-6)


def test_parameters_serve_any_number_of_features():
  params = params_of(3)
  for number in (2, 3, 9):
    p, state = answer(params, comparisons(number), comparisons(number, seed=3).candidates)
    assert state.heads.shape == (4, number)
    np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-5)


def test_a_feature_seen_twice_is_believed_twice():
  """Two columns that are the same are the same to the network."""
  support = comparisons(4)
  features = support.candidates.features.at[..., 3].set(support.candidates.features[..., 0])
  support = support._replace(candidates=support.candidates._replace(features=features))
  _, state = answer(params_of(4), support, support.candidates)
  np.testing.assert_allclose(state.heads[:, 0], state.heads[:, 3], atol=1e-6)
  assert np.abs(state.heads[:, 0] - state.heads[:, 1]).max() > 1e-3


def test_what_it_is_told_reaches_the_answer():
  params, support = params_of(3, num_context=2), comparisons(3)
  query = comparisons(3, seed=4).candidates
  first, second = (answer(params, support, query, told)[0] for told in ((0, 0), (1, -1)))
  assert np.abs(first - second).max() > 1e-4
