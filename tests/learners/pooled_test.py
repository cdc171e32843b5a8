import jax
import jax.numpy as jnp
import numpy as np

from metapers import learners
from metapers.core import task
from metapers.populations import toy


def episode():
  return toy.two_types(num_features=3).episode_of((), jnp.asarray(1), 'train')[0]


def test_pooled_ignores_the_support():
  learner = learners.make('pooled', num_features=3)
  params = learner.init(jax.random.key(0))
  assert learner.adapt(params, episode().support, episode().context, jax.random.key(0)) == ()


def test_per_user_starts_at_pooled_and_fits_the_support():
  per_user = learners.make('per_user', num_features=3, inner_steps=200, inner_learning_rate=0.05)
  params = per_user.init(jax.random.key(0))
  given = episode()
  none = per_user.adapt(params, task.with_shots(given.support, 0), given.context, jax.random.key(0))
  jax.tree.map(np.testing.assert_array_equal, none, params)
  fitted = per_user.adapt(params, given.support, given.context, jax.random.key(0))
  log_p = per_user.predict(params, fitted, given.support.candidates)
  assert np.array_equal(log_p.argmax(-1), given.support.choice)


def test_per_user_is_trained_as_pooled():
  pooled = learners.make('pooled', num_features=3)
  per_user = learners.make('per_user', num_features=3)
  params = pooled.init(jax.random.key(0))
  losses = [learner.loss(params, episode(), jax.random.key(1))[0] for learner in (pooled, per_user)]
  assert losses[0] == losses[1]


def test_per_user_keeps_its_head_over_many_comparisons_that_contradict_each_other():
  given = toy.two_types(num_features=3, num_support=256).episode_of((), jnp.asarray(1), 'train')[0]
  support, learner = given.support, learners.make('per_user', num_features=3)
  wide = support.candidates._replace(features=10 * support.candidates.features)
  support = support._replace(candidates=wide, choice=jnp.arange(256) % 2)
  params, key = learner.init(jax.random.key(0)), jax.random.key(0)

  def nll(state):
    log_p = learner.predict(params, state, wide)
    return -jnp.sum(jnp.take_along_axis(log_p, support.choice[:, None], -1))

  assert nll(learner.adapt(params, support, given.context, key)) < nll(params)
