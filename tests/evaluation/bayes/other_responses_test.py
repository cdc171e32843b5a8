"""The answer to who sees extreme pairs alone: slates whose responses depend on one another."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from simulated_posteriors import RESPONSES, SMALL, grid, simulate

from metapers.core.population import Responses, Simulation, UserModel
from metapers.evaluation.bayes import other_responses, references

SHOTS = (0, 2, 5)
FACTS = Simulation(('a', 'b', 'c'), pair_rules=('extreme',), has_score_features=True)
HABITS = np.array([[1.5, 0, 0], [0, 1, -1], [-1, 0.5, 0.5], [0, 0, -2.0]])
OF_PROMPT = np.array([[1.0, 0.3, 0], [0, 0.8, 0], [0, 0.4, 0.5]])  # S = OF_PROMPTᵀ OF_PROMPT
OWN = np.array([[1.0, -0.4, 0], [0, 1.0, 0.3], [0, 0, 0.7]])
USER_MODELS = [UserModel(0.5), UserModel(0.5, 0.4, 0.1)]


def draw(rng, shape):
  """Slates of dependent responses, in the fixed order of those who wrote them."""
  *batch, size, _ = shape
  prompt = rng.normal(size=(*batch, 1, 3)) @ OF_PROMPT
  return HABITS[:size] + prompt + rng.normal(size=shape) @ OWN


@functools.cache
def responses(count=4000):
  rewards = draw(np.random.default_rng(3), (count, RESPONSES, 3)).astype(np.float32)
  return Responses(np.arange(count), rewards, rewards, np.ones((count, RESPONSES), bool))


def log_between(shown, points):
  """log Σ_ij p(z_1, z_2, others between | i, j, w) [..., G], by quadrature over the prompt."""
  share, own = OF_PROMPT.T @ OF_PROMPT, OWN.T @ OWN
  regression = share @ np.linalg.inv(share + own / 2)
  left = share - regression @ share  # of what the pair leaves unknown of its prompt
  nodes, weights = np.polynomial.hermite_e.hermegauss(24)
  own_deviation = np.sqrt(np.einsum('gb,bc,gc->g', points, own, points))[:, None]
  prompt = np.sqrt(np.einsum('gb,bc,gc->g', points, left, points))[:, None] * nodes  # [G, Q]
  utilities = shown @ points.T  # [2, G]
  low, high = utilities.min(0)[:, None], utilities.max(0)[:, None]
  density = stats.multivariate_normal(cov=np.block([[share + own, share], [share, share + own]]))
  total = 0
  for i in range(RESPONSES):
    for j in set(range(RESPONSES)) - {i}:
      pair = shown - HABITS[[i, j]]
      middle = (points @ regression @ pair.mean(0))[:, None] + prompt
      inside = 1
      for other in set(range(RESPONSES)) - {i, j}:
        at = middle + (points @ HABITS[other])[:, None]
        inside = inside * (
          stats.norm.cdf((high - at) / own_deviation) - stats.norm.cdf((low - at) / own_deviation)
        )
      total = total + density.pdf(pair.ravel()) * (inside @ weights)
  return np.log(total)


def brute_force(user_model, tasks):
  """Predictive of the first candidate by a grid of weights: [L, T, N]."""
  points = np.asarray(grid(user_model.concentration, 25), np.float64)

  def joint(shown):  # [2, G]
    gap = (shown[0] - shown[1]) @ points.T
    with np.errstate(over='ignore'):
      p = 1 / (1 + np.exp(-gap / max(user_model.temperature, 1e-9)))
    p = p + user_model.flip_rate * (1 - 2 * p)
    return log_between(shown, points)[None] + np.log(np.maximum([p, 1 - p], 1e-30))

  found = np.zeros((len(SHOTS), *tasks.query.mask.shape))
  for user in range(len(found[0])):
    support, query = (
      np.array([joint(np.asarray(shown, np.float64)) for shown in part.candidates.features[user]])
      for part in (tasks.support, tasks.query)
    )
    chosen = support[np.arange(len(support)), np.asarray(tasks.support.choice[user])]
    for row, shots in enumerate(SHOTS):
      log_p = query + chosen[:shots].sum(0)[None, None]
      p = np.exp(log_p - log_p.max()).sum(-1)
      found[row, user] = p[:, 0] / p.sum(-1)
  return found


def predict(tasks, truth, user_model, **options):
  facts = FACTS._replace(user_models=(user_model,))
  options = {'split': 'test', 'shots': SHOTS} | options
  return references.bayes_pair(tasks, truth, facts, responses(), **options)


@pytest.mark.parametrize('user_model', USER_MODELS, ids=str)
def test_it_agrees_with_brute_force_of_three_reward_models(user_model):
  tasks, truth = simulate(user_model, ('extreme', 2), **SMALL, draw=draw)
  hidden = truth._replace(
    support_rewards=truth.support_rewards.at[:, :, 2:].set(jnp.nan),
    query_rewards=truth.query_rewards.at[:, :, 2:].set(jnp.nan),
  )
  made, diagnostics = predict(tasks, hidden, user_model, num_sets=2700, num_particles=600)
  assert np.all(diagnostics.num_unexplained == 0)
  expected = brute_force(user_model, tasks)
  np.testing.assert_allclose(jnp.exp(made.log_probs)[..., 0], expected, atol=0.04)


def test_moments_are_those_of_the_slates():
  slates = other_responses.slates_of(responses())
  np.testing.assert_allclose(slates.means, HABITS, atol=0.08)
  np.testing.assert_allclose(slates.shared, OF_PROMPT.T @ OF_PROMPT, atol=0.08)
  np.testing.assert_allclose(slates.total - slates.shared, OWN.T @ OWN, atol=0.05)


def test_pairs_are_told_apart_by_their_density():
  slates = other_responses.slates_of(responses())
  shown = draw(np.random.default_rng(4), (6, 2, 3))
  share, own = slates.shared, slates.total - slates.shared
  joint = np.block([[share + own, share], [share, share + own]])
  density = stats.multivariate_normal(cov=joint)
  expected = [
    np.logaddexp(
      density.logpdf((shown - slates.means[[i, j]]).reshape(6, 6)),
      density.logpdf((shown - slates.means[[j, i]]).reshape(6, 6)),
    )
    for i, j in slates.pairs
  ]
  found = other_responses.pair_odds(slates, jnp.asarray(shown, jnp.float32)).T
  np.testing.assert_allclose(
    jax.nn.log_softmax(found, 0), jax.nn.log_softmax(np.array(expected), 0), atol=0.02
  )


def test_sets_are_of_the_responses_that_are_not_shown():
  few = jax.tree.map(lambda x: x[:50], responses())
  few = few._replace(mask=few.mask & (np.arange(200).reshape(50, 4) % 7 > 0))
  slates = other_responses.slates_of(few)
  sets = other_responses.resample(few, slates, 120, seed=0)
  assert sets.directions.shape == (120, 2, 3)
  assert np.bincount(sets.kind, minlength=6).min() > 14
  origin = np.asarray(sets.directions)
  for index in range(120):
    i, j = slates.pairs[sets.kind[index]]
    others = [r for r in range(4) if r not in (i, j)]
    moved = few.rewards[:, others] - (
      few.rewards[:, [i, j]].mean(1, keepdims=True) @ slates.regression
    )
    moved = np.where(few.mask[:, others, None], moved, 0)
    same = np.abs(moved - origin[index]).max((1, 2)) < 1e-4
    assert few.mask[same][:, [i, j]].all() and same.any()
    assert (few.mask[same][:, others] == np.asarray(sets.mask[index])).all()


@pytest.mark.parametrize('count', [1000, 9402])
def test_sets_are_of_as_many_prompts_as_there_are_sets(count):
  rewards = np.broadcast_to(np.arange(count, dtype=np.float32)[:, None, None], (count, 8, 1))
  many = Responses(np.arange(count), rewards, rewards, np.ones((count, 8), bool))
  slates = other_responses.slates_of(many)._replace(shared=np.zeros((1, 1)))  # so that G = 0
  sets = other_responses.resample(many, slates, 112, seed=0)
  prompts = np.asarray(sets.directions)[:, 0, 0]
  assert len(np.unique(prompts)) > 0.9 * 112
  assert (np.histogram(prompts, 4, (0, count))[0] > 14).all()
  assert (np.bincount(sets.kind, minlength=28) == 4).all()


def test_other_pairs_and_slates_of_two_are_refused():
  tasks, truth = simulate(USER_MODELS[0], ('extreme', 2), **SMALL)
  facts = FACTS._replace(pair_rules=('random',))
  options = {'split': 'test', 'shots': (0,)}
  with pytest.raises(ValueError, match='for pair_rule extreme, got random'):
    references.bayes_pair(tasks, truth, facts, responses(), **options)
  two = jax.tree.map(lambda x: x[:, :2] if x.ndim > 1 else x, responses())
  with pytest.raises(ValueError, match='at least 3 responses, got 2'):
    references.bayes_pair(tasks, truth, FACTS, two, **options)
