"""The posterior of users who say which reward model has most of their weight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from simulated_posteriors import SETTINGS, SMALL, evidence_of_grid, grid, simulate

from metapers.core.population import UserModel
from metapers.evaluation.bayes import ceiling, particles, posterior

RULE = ('random', 2)
MODELS = [UserModel(0.3, 0.3), UserModel(1.0, 0.0, 0.1), UserModel(0.05, 0.5)]


@pytest.mark.parametrize('user_model', MODELS, ids=str)
def test_it_agrees_with_a_grid_of_those_whose_largest_weight_is_as_stated(user_model):
  tasks, truth = simulate(user_model, RULE, **SMALL)
  statement = np.asarray(truth.weights).argmax(-1).astype(np.int32)
  statement[0] = -1  # says nothing
  made, diagnostics = ceiling.bayes(
    tasks, truth, [user_model], pair_rule='random', statement=jnp.asarray(statement), **SETTINGS
  )
  assert np.all(diagnostics.num_unexplained == 0)
  noise = jnp.array([user_model.temperature, user_model.flip_rate])
  shots = jnp.array(SETTINGS['shots'])
  for user, stated in enumerate(statement):
    points = np.asarray(grid(user_model.concentration))
    points = points if stated < 0 else points[points.argmax(-1) == stated]
    one = jax.tree.map(lambda x, user=user: x[user : user + 1], (tasks, truth))
    answers, _ = evidence_of_grid(jnp.asarray(points), *one, noise, rule=RULE)
    expected = (answers / answers.sum(-1, keepdims=True))[0][shots]
    np.testing.assert_allclose(jnp.exp(made.log_probs[:, user]), expected, atol=0.03)


def test_draws_from_the_prior_are_those_that_rejection_leaves():
  rng = np.random.default_rng(0)
  weights = rng.dirichlet(np.full(3, 0.4), 200_000)
  made = posterior.as_stated(jnp.asarray(np.log(weights + 1e-30).T), jnp.int32(2))
  assert np.all(np.argmax(made, 0) == 2)
  kept = weights[weights.argmax(-1) == 2]
  got = np.exp(np.asarray(made)).T
  np.testing.assert_allclose(got.mean(0), kept.mean(0), atol=4e-3)
  np.testing.assert_allclose(np.cov(got.T), np.cov(kept.T), atol=4e-3)
  same = posterior.as_stated(jnp.asarray(np.log(weights + 1e-30).T), jnp.int32(-1))
  np.testing.assert_allclose(np.exp(np.asarray(same)).T, weights, atol=1e-6)


@pytest.mark.parametrize('statement', [-1, 0, 1])
@pytest.mark.parametrize('model', [0, 1, 2])
def test_a_move_keeps_the_model_named_on_top(statement, model):
  rng = np.random.default_rng(1)
  weights = rng.dirichlet(np.ones(3), 500).T
  others = np.where(np.arange(3)[:, None] == model, -np.inf, np.log(weights))
  log_odds = np.log(weights[model]) - others
  got = particles.keeps(jnp.int32(statement), jnp.int32(model), jnp.asarray(log_odds, jnp.float32))
  if statement < 0:
    assert np.all(got)
  elif statement == model:
    np.testing.assert_array_equal(got, weights.argmax(0) == model)
  else:
    np.testing.assert_array_equal(got, weights[statement] >= weights[model])


def test_statements_beside_a_floor_are_refused():
  tasks, truth = simulate(MODELS[0], RULE, **SMALL)
  with pytest.raises(ValueError, match='none of whose weights has a floor'):
    ceiling.bayes(
      *(tasks, truth, MODELS[:1]),
      **{'pair_rule': 'random', 'floor': (0.5, 0.0, 0.0), 'statement': jnp.zeros(3, jnp.int32)},
      **SETTINGS,
    )
