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


def test_robust_personalization_weighs_users_by_how_far_they_are_above_a_quantile():
  objective = objectives.robust_personalization(share=0.5, temperature=0.25)
  weights = 1 / (1 + np.exp(-(np.asarray(LOSSES) - np.median(LOSSES)) / 0.25))
  np.testing.assert_allclose(value(objective), np.mean(weights * LOSSES), rtol=1e-5)
  gradient = jax.grad(lambda losses: value(objective, losses))(LOSSES)
  steps = 1e-3 * np.eye(7)
  by_differences = [
    (value(objective, LOSSES + step) - value(objective, LOSSES - step)) / 2e-3 for step in steps
  ]
  np.testing.assert_allclose(gradient, by_differences, atol=2e-3)


@pytest.mark.parametrize('options', [{'share': 0.0}, {'share': 1.0}, {'temperature': 0.0}])
def test_impossible_options_of_robust_personalization_are_refused(options):
  with pytest.raises(ValueError, match=next(iter(options))):
    objectives.robust_personalization(**options)


@pytest.mark.parametrize('name', objectives.OBJECTIVES)
def test_every_objective_has_defaults(name):
  assert jnp.isfinite(value(objectives.OBJECTIVES[name]()))
