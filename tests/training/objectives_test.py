import jax.numpy as jnp

from metapers.training import objectives


def test_mean_weighs_users_alike_and_keeps_no_state():
  objective = objectives.mean()
  value, state = objective.apply(jnp.array([1.0, 2.0, 6.0]), jnp.array([0, 0, 5]), objective.init())
  assert value == 3.0
  assert state == ()
