import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.training import objectives

LOSSES = jax.random.normal(jax.random.key(0), (7,))
GROUPS = jnp.zeros(7, jnp.int32)


def value(objective, losses=LOSSES):
  result, state = objective.apply(losses, GROUPS, objective.init())
  assert state == ()
  return result


def test_mean_weighs_users_alike_and_keeps_no_state():
  assert value(objectives.mean(), jnp.array([1.0, 2.0, 6.0])) == 3.0


@pytest.mark.parametrize('share', [0.05, 1 / 7, 0.3, 0.5, 4 / 7, 0.99, 1.0])
def test_cvar_is_the_least_of_its_upper_bounds(share):
  """min over t of t + mean(max(loss - t, 0)) / share; the least is at one of the losses."""
  bounds = [t + np.mean(np.maximum(LOSSES - t, 0)) / share for t in np.asarray(LOSSES)]
  np.testing.assert_allclose(value(objectives.cvar(share)), min(bounds), rtol=1e-5, atol=1e-6)


def test_cvar_goes_from_the_mean_to_the_worst():
  np.testing.assert_allclose(value(objectives.cvar(1.0)), LOSSES.mean(), rtol=1e-5)
  assert value(objectives.cvar(0.01)) == LOSSES.max()


def test_the_gradient_of_cvar_reaches_the_worst_users_only():
  gradient = jax.grad(lambda losses: value(objectives.cvar(2.5 / 7), losses))(LOSSES)
  expected = np.zeros(7)
  expected[np.argsort(-LOSSES)[:3]] = [0.4, 0.4, 0.2]
  np.testing.assert_allclose(gradient, expected, rtol=1e-5)


@pytest.mark.parametrize('share', [0.0, -0.1, 1.1, float('nan')])
def test_impossible_shares_are_refused(share):
  with pytest.raises(ValueError, match='share must be above 0 and at most 1'):
    objectives.cvar(share)


@pytest.mark.parametrize('name', objectives.OBJECTIVES)
def test_every_objective_has_defaults(name):
  assert jnp.isfinite(value(objectives.OBJECTIVES[name]()))
