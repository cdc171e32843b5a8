import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.training import objectives

LOSSES = jax.random.normal(jax.random.key(0), (7,))
GROUPS = jnp.zeros(7, jnp.int32)


def value(objective, losses=LOSSES):
  result, state = objective.apply(losses, GROUPS, objective.init(1))
  assert objective.has_groups or state == ()
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


THREE = jnp.array([0, 2, 0, 2, 2, 0, 0])  # of four groups, of which two are there


def test_group_dro_weighs_two_groups_as_by_hand_over_three_steps():
  objective, groups = objectives.group_dro(step_size=0.5), jnp.array([0, 1, 1])
  state, log_odds = objective.init(2), 0.0
  np.testing.assert_allclose(np.exp(state), [0.5, 0.5], rtol=1e-6)
  for losses in ([1.0, 2.0, 4.0], [2.0, 0.0, 1.0], [0.5, 3.0, 3.0]):
    of_group = losses[0], (losses[1] + losses[2]) / 2
    log_odds += 0.5 * (of_group[1] - of_group[0])  # log q_1 / q_0
    q = 1 / (1 + np.exp(log_odds)), 1 / (1 + np.exp(-log_odds))
    found, state = objective.apply(jnp.array(losses), groups, state)
    np.testing.assert_allclose(np.exp(state), q, rtol=1e-5)
    np.testing.assert_allclose(found, q[0] * of_group[0] + q[1] * of_group[1], rtol=1e-5)


def test_the_gradient_of_group_dro_is_the_new_weights_and_misses_those_who_are_not_there():
  objective = objectives.group_dro(step_size=1.0)
  gradient, state = jax.grad(
    lambda losses: objective.apply(losses, THREE, objective.init(4)), has_aux=True
  )(LOSSES)
  expected = jnp.exp(state)[THREE] / jnp.array([4.0, 3.0])[THREE // 2]
  np.testing.assert_allclose(gradient, expected, rtol=1e-5)
  np.testing.assert_allclose(state[1], state[3], rtol=1e-6)
  means = [LOSSES[group == THREE].mean() for group in (0, 2)]
  np.testing.assert_allclose(state[0] - state[1], means[0], rtol=1e-4, atol=1e-6)


def test_group_dro_without_steps_counts_all_groups_alike():
  objective = objectives.group_dro(step_size=0.0)
  found, _ = objective.apply(LOSSES, THREE // 2, objective.init(2))
  np.testing.assert_allclose(found, np.mean([LOSSES[g == THREE].mean() for g in (0, 2)]), rtol=1e-5)


def test_group_invariant_is_the_mean_and_the_variance_of_the_groups_by_hand():
  objective = objectives.group_invariant(penalty=3.0)
  losses, groups = jnp.array([1.0, 2.0, 4.0, 8.0]), jnp.array([5, 1, 1, 3])
  found, state = objective.apply(losses, groups, objective.init(6))  # group means 1, 3 and 8
  np.testing.assert_allclose(found, 4 + 3 * (9 + 1 + 16) / 3, rtol=1e-6)
  assert state == ()


def test_the_gradient_of_group_invariant_agrees_with_finite_differences():
  objective = objectives.group_invariant(penalty=10.0)
  with jax.enable_x64(True):
    losses = jnp.asarray(np.asarray(LOSSES), jnp.float64)

    def of(losses):
      return objective.apply(losses, THREE, ())[0]

    steps = 1e-5 * np.eye(7)
    by_differences = [(of(losses + step) - of(losses - step)) / 2e-5 for step in steps]
    np.testing.assert_allclose(jax.grad(of)(losses), by_differences, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize('value', [-1.0, float('nan'), float('inf')])
def test_impossible_rates_are_refused(value):
  with pytest.raises(ValueError, match='step_size must be at least 0'):
    objectives.group_dro(value)
  with pytest.raises(ValueError, match='penalty must be at least 0'):
    objectives.group_invariant(value)
