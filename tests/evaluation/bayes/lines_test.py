"""The likelihood along a line of weights is that at each point of it, and moves read no more."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.evaluation.bayes import evidence, lines, other_responses, particles
from metapers.evaluation.bayes.evidence import Rule, UserModels
from metapers.evaluation.bayes.other_responses import Others
from metapers.evaluation.bayes.particles import Particles

EXTREME = Rule('extreme', 2)
NUM, MODELS, SIZE = 6, 4, 400


def comparisons(rng, rule, num_responses=5, largest=2):
  """Slates of scores with ties among them, of which some responses are masked."""
  scores = rng.integers(-largest, largest + 1, (NUM, num_responses, MODELS)).astype(np.float32)
  scores[:3] += rng.normal(size=scores[:3].shape).astype(np.float32)
  mask = np.arange(num_responses)[None] < np.array([5, 5, 3, 5, 4, 2])[:, None]
  choice = rng.integers(0, 2, NUM).astype(np.int32)
  return evidence.evidence_of(
    jnp.asarray(scores), jnp.asarray(mask), jnp.asarray(choice), rule=rule
  )


def user_models(temperature, flip_rate):
  return UserModels(*(jnp.full(SIZE, value) for value in (0.3, temperature, flip_rate)))


def line(rng, given, model):
  """Gaps at both ends of a line, whose other weights are of a few models, or of one alone."""
  # No weights between: whether they break a tie is a matter of rounding.
  others = np.log(rng.dirichlet(np.full(MODELS, 3.0), SIZE).T)
  alone = (model + rng.integers(1, MODELS, SIZE // 2)) % MODELS
  others[:, : SIZE // 2] = np.where(np.arange(MODELS)[:, None] == alone, 0, -np.inf)
  others[model] = -np.inf
  others -= np.logaddexp.reduce(others, 0)
  own = jax.tree.map(lambda x: x[..., model, None], given.linear)
  return own, evidence.gaps_of(given, jnp.asarray(np.exp(others), jnp.float32))


@pytest.mark.parametrize('noise', [(0.0, 0.0), (0.4, 0.1)])
def test_slates_have_the_likelihood_of_each_point_of_the_line(noise):
  rng = np.random.default_rng(0)
  given, held = comparisons(rng, EXTREME, largest=1), 0
  of_line = jax.jit(
    lambda own, rest, x: lines.likelihood(own, rest, given, models, rule=EXTREME)(x)
  )
  models = user_models(*noise)
  for model in range(MODELS):
    own, rest = line(rng, given, model)
    for x in (rng.normal(size=SIZE) * 3, np.full(SIZE, 200.0), np.full(SIZE, -200.0)):
      x = jnp.asarray(x, jnp.float32)
      gaps = lines.mix(own, rest, x)
      expected = evidence.likelihood(gaps, given, models, rule=EXTREME)
      np.testing.assert_allclose(of_line(own, rest, x), expected, atol=1e-6)
      held += int(jnp.sum(expected > 0))
  assert 1000 < held < NUM * SIZE * MODELS * 3 - 1000


def test_other_rules_are_read_at_each_point():
  rng, rule, models = np.random.default_rng(1), Rule('random', 2), user_models(0.4, 0.1)
  given = comparisons(rng, rule, num_responses=5)
  own, rest = line(rng, given, 2)
  x = jnp.asarray(rng.normal(size=SIZE), jnp.float32)
  expected = evidence.likelihood(lines.mix(own, rest, x), given, models, rule=rule)
  np.testing.assert_array_equal(lines.likelihood(own, rest, given, models, rule=rule)(x), expected)


def test_moves_of_the_first_comparisons_are_those_of_all_with_none_after_them():
  rng = np.random.default_rng(2)
  given = comparisons(rng, EXTREME)
  weights = rng.dirichlet(np.full(MODELS, 0.3), SIZE).T
  rung = jnp.array([particles.LAST, 3, particles.LAST, 0, 0, 0])
  start = Particles(
    jnp.asarray(np.log(weights), jnp.float32), jnp.zeros(SIZE), user_models(0.4, 0.1), rung
  )
  key = jax.random.key(0)
  whole = jax.jit(functools.partial(particles.rejuvenate, rule=EXTREME))(key, start, given)
  move = jax.jit(particles.rejuvenate_first, static_argnums=(0, 2))
  first = move(3, given, EXTREME, key, start)
  np.testing.assert_allclose(first.log_weights, whole.log_weights, rtol=1e-3, atol=1e-3)
  assert np.array_equal(first.rung, rung)
  fewer = move(1, given, EXTREME, key, start)
  assert jnp.abs(fewer.log_weights - whole.log_weights).max() > 0.1


def test_comparisons_that_are_not_given_yet_change_no_answer(monkeypatch):
  rng = np.random.default_rng(4)
  given, models = comparisons(rng, EXTREME), user_models(0.4, 0.1)
  weights = rng.dirichlet(np.full(MODELS, 0.3), SIZE).T
  none = jnp.zeros(NUM, jnp.int32)
  start = Particles(jnp.asarray(np.log(weights), jnp.float32), jnp.zeros(SIZE), models, none)

  def answer(few):
    monkeypatch.setattr(particles, 'FEW', few)
    absorb = jax.jit(functools.partial(particles.absorb, rule=EXTREME))
    return functools.reduce(
      lambda now, n: absorb(jax.random.key(n), now, given, jnp.int32(n)), range(4), start
    )

  first, whole = answer(2), answer(NUM)
  assert np.array_equal(first.rung, whole.rung)
  assert np.any(first.log_weights != start.log_weights)
  means = [particles.mean(jnp.exp(one.log_weights), one) for one in (first, whole)]
  np.testing.assert_allclose(*means, atol=1e-3)


def test_sets_between_are_counted_as_by_hand():
  rng = np.random.default_rng(3)
  num_sets, size = 24, 50
  own = rng.normal(size=(2, NUM, size)).astype(np.float32)
  utilities = rng.normal(size=(num_sets, 3, size)).astype(np.float32) / 2
  mask = rng.random((num_sets, 3)) < 0.8
  kind, odds = rng.integers(0, 4, num_sets), rng.normal(size=(NUM, 4)).astype(np.float32)
  others = Others(jnp.zeros((num_sets, 3, MODELS)), jnp.asarray(mask), jnp.asarray(kind))
  found = other_responses.between(*map(jnp.asarray, (own, utilities)), others, jnp.asarray(odds))
  share = np.exp(odds[:, kind])
  share /= share.sum(1, keepdims=True)
  high, low = own[1] - np.minimum(own[0], 0), own[1] - np.maximum(own[0], 0)
  inside = (utilities[None] >= low[:, None, None]) & (utilities[None] <= high[:, None, None])
  held = ((inside | ~mask[None, ..., None]).all(2) * share[..., None]).sum(1)  # [N, S]
  half = (share**2).sum(1, keepdims=True) / 2
  np.testing.assert_allclose(found, (held + half) / (1 + half), atol=1e-5)
