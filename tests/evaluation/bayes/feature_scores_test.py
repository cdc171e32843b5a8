"""The answer to who sees features alone: linear ones of scores, Gaussian noise, three models."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from simulated_posteriors import SMALL, grid, simulate

from metapers.core import choice_model
from metapers.core.population import Responses, Simulation, UserModel
from metapers.evaluation.bayes import ceiling, feature_scores, references

SHOTS = (0, 2, 5)
NOISE = 0.8
MIX = np.random.default_rng(5).normal(size=(3, 4))  # of three scores in four features
USER_MODELS = [UserModel(0.3), UserModel(0.3, 0.4), UserModel(0.3, 0.0, 0.15)]


def features_of(rewards, seed):
  noise = np.random.default_rng(seed).normal(size=(*rewards.shape[:-1], MIX.shape[1]))
  return jnp.asarray(np.asarray(rewards) @ MIX + NOISE * noise, jnp.float32)


@functools.cache
def responses(count=3000):
  rewards = np.random.default_rng(6).normal(size=(count, 4, 3)).astype(np.float32)
  mask = np.random.default_rng(7).random((count, 4)) < 0.9
  return Responses(np.arange(count), np.asarray(features_of(rewards, 8)), rewards, mask)


def seen_by_features(user_model, **sizes):
  tasks, truth = simulate(user_model, **sizes)

  def read(choices, seed):
    features = features_of(choices.candidates.features, seed)
    return choices._replace(candidates=choices.candidates._replace(features=features))

  tasks = tasks._replace(support=read(tasks.support, 1), query=read(tasks.query, 2))
  slate = truth.slate._replace(features=features_of(truth.slate.features, 3))
  return tasks, truth._replace(slate=slate)


def predict(user_model, tasks, truth, num_particles, told=None, **more):
  facts = Simulation(('a', 'b', 'c'), user_models=(told or user_model,))
  hidden = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), truth)  # scores are not looked at
  hidden = truth._replace(
    support_rewards=hidden.support_rewards, query_rewards=hidden.query_rewards
  )
  options = {'split': 'test', 'shots': SHOTS, 'num_particles': num_particles, **more}
  return references.bayes_features(tasks, hidden, facts, responses(), **options)


def joint_moments():
  """The true regression of contrasts of scores on those of features, and its residuals."""
  total = MIX.T @ MIX + NOISE**2 * np.eye(4)
  coefficients = np.linalg.solve(total, MIX.T)
  return coefficients, 2 * (np.eye(3) - MIX @ coefficients)


def brute_force(user_model, tasks):
  """Predictive of the first candidate by a grid of weights and 64-point quadrature: [L, T, N]."""
  coefficients, covariance = joint_moments()
  points = np.asarray(grid(user_model.concentration, 60), np.float64)
  spread = np.sqrt(np.einsum('gb,bc,gc->g', points, covariance, points))
  nodes, weights = np.polynomial.hermite_e.hermegauss(64)
  weights = weights / weights.sum()

  def first(choices):
    x = np.asarray(choices.candidates.features, np.float64)
    mean = (x[..., 0, :] - x[..., 1, :]) @ coefficients @ points.T  # [T, N, G]
    if user_model.temperature:
      gaps = mean[..., None] + spread[:, None] * nodes
      p = (1 / (1 + np.exp(-gaps / user_model.temperature))) @ weights
    else:
      p = stats.norm.cdf(mean / spread)
    return p + user_model.flip_rate * (1 - 2 * p)

  p = first(tasks.support)
  likelihood = np.where(np.asarray(tasks.support.choice)[..., None] == 0, p, 1 - p)
  query = first(tasks.query)
  found = []
  for shots in SHOTS:
    posterior = likelihood[:, :shots].prod(1)
    posterior /= posterior.sum(-1, keepdims=True)
    found.append(np.einsum('tng,tg->tn', query, posterior))
  return np.stack(found)


@pytest.mark.parametrize('user_model', USER_MODELS, ids=str)
def test_it_agrees_with_brute_force_of_three_reward_models(user_model):
  tasks, truth = seen_by_features(user_model, **SMALL)
  made, diagnostics = predict(user_model, tasks, truth, 2000)
  assert np.all(diagnostics.num_unexplained == 0)
  expected = brute_force(user_model, tasks)
  np.testing.assert_allclose(jnp.exp(made.log_probs)[..., 0], expected, atol=0.03)


def test_choices_are_as_noisy_as_the_users_that_are_believed_in():
  user_model = UserModel(0.3, 0.4)
  tasks, truth = seen_by_features(user_model, **SMALL)
  expected, _ = predict(user_model, tasks, truth, 300)
  made, _ = predict(user_model, tasks, truth, 300, UserModel(0.3), user_models=(user_model,))
  np.testing.assert_allclose(made.log_probs, expected.log_probs, atol=1e-5)


def test_it_is_calibrated_and_below_the_true_weights():
  user_model = USER_MODELS[0]
  tasks, truth = seen_by_features(
    user_model, num_users=80, num_support=5, num_query=40, num_models=3
  )
  made, _ = predict(user_model, tasks, truth, 300)
  p = jnp.exp(made.log_probs)
  accuracy = jax.vmap(choice_model.correct, (0, None))(made.log_probs, tasks.query)
  np.testing.assert_allclose(p.max(-1).mean((1, 2)), accuracy.mean((1, 2)), atol=0.03)
  read = references.read_scores(tasks, truth, responses())
  oracle = ceiling.oracle(tasks, read, num_rows=1)
  best = choice_model.correct(oracle.log_probs[0], tasks.query).mean()
  assert best > accuracy[-1].mean() > accuracy[0].mean() + 0.02


def test_the_covariance_is_that_of_contrasts_of_unseen_prompts():
  found = feature_scores.contrast_covariance(responses())
  np.testing.assert_allclose(found, joint_moments()[1], atol=0.05)
  few = jax.tree.map(lambda x: x[:10], responses())
  total = []
  for fold in range(5):
    kept = few.mask[np.arange(10) % 5 != fold], few.features[np.arange(10) % 5 != fold]
    rewards = few.rewards[np.arange(10) % 5 != fold]
    fitted = feature_scores.coefficients_of(Responses(np.arange(8), kept[1], rewards, kept[0]))
    for prompt in (fold, fold + 5):
      real = np.flatnonzero(few.mask[prompt])
      error = few.rewards[prompt] - few.features[prompt] @ fitted
      pairs = [error[i] - error[j] for i in real for j in real if i != j]
      total += [np.mean([np.outer(pair, pair) for pair in pairs], 0)]
  np.testing.assert_allclose(feature_scores.contrast_covariance(few), np.mean(total, 0), rtol=1e-3)


def test_a_mixture_of_normals_is_the_logistic():
  scales, shares = feature_scores.logistic_mixture()
  x = np.linspace(-30, 30, 1001)
  mixed = stats.norm.cdf(x[:, None] / scales) @ shares
  np.testing.assert_allclose(mixed, stats.logistic.cdf(x), atol=1e-6)


def test_pairs_that_depend_on_scores_are_refused():
  tasks, truth = seen_by_features(USER_MODELS[0], **SMALL)
  facts = Simulation(('a', 'b', 'c'), user_models=(UserModel(0.3),), pair_rules=('extreme',))
  with pytest.raises(ValueError, match='random or best_of_k, got 2 of extreme'):
    references.bayes_features(tasks, truth, facts, responses(), split='test', shots=(0,))
