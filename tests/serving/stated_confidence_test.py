"""Who says how sure they were of a choice is served by its weight: an approximation of flips."""

import jaxtyping
import numpy as np
import pytest
from scipy import special

from metapers.serving.confidence import information
from metapers.serving.personalizer import Personalizer, pairs

D, SURE = 4, np.array([0.5, 0.6, 0.75, 0.9, 1.0])


def texts(*size, seed=0):
  return np.random.default_rng(seed).normal(size=(*size, D)).astype(np.float32)


@pytest.fixture(scope='module')
def model():
  return Personalizer.load_pretrained(scores=texts(100), capacity=8)


def flipped(gap, confidence):
  """P(a) as people answer who would have chosen otherwise with rate 1 - c."""
  return confidence * special.expit(gap) + (1 - confidence) * special.expit(-gap)


def test_the_weight_is_the_share_of_what_a_sure_choice_says():
  step = 1e-4

  def fisher(confidence):
    p = flipped(0.0, confidence)
    slope = (flipped(step, confidence) - flipped(-step, confidence)) / (2 * step)
    return slope**2 * (1 / p + 1 / (1 - p))

  np.testing.assert_allclose(information(SURE), fisher(SURE) / fisher(1.0), rtol=1e-6)


def test_the_slope_of_the_likelihood_would_be_another_weight():
  step = 1e-4
  slope = (np.log(flipped(step, SURE)) - np.log(flipped(-step, SURE))) / (2 * step)
  np.testing.assert_allclose(slope / slope[-1], 2 * SURE - 1, atol=1e-6)
  assert (information(SURE) <= 2 * SURE - 1).all()


def test_confidence_multiplies_the_weight():
  a, b = texts(2, 5)
  weight = np.array([1.0, 2.0, 0.5, 3.0, 1.5])
  given = pairs(a, b, confidence=SURE, weight=weight).weight
  np.testing.assert_allclose(given, weight * np.array([0, 0.04, 0.25, 0.64, 1]), atol=1e-12)
  np.testing.assert_array_equal(pairs(a, b, confidence=SURE).weight, information(SURE))
  assert pairs(a[0], b[0], confidence=0.75).weight.tolist() == [0.25]


def test_sure_is_a_plain_choice_and_a_coin_says_nothing(model):
  (a, b), shown = texts(2, 5), texts(2, 6, seed=1)

  def chance(given):
    return model.probability(model.adapt(given), *shown)

  plain = chance(pairs(a, b))
  np.testing.assert_array_equal(chance(pairs(a, b, confidence=[1.0] * 5)), plain)
  nothing = model.probability(model.adapt(), *shown)
  np.testing.assert_allclose(chance(pairs(a, b, confidence=[0.5] * 5)), nothing, atol=1e-6)
  less = chance(pairs(a, b, confidence=[0.8] * 5))
  assert np.abs(less - nothing).mean() < 0.9 * np.abs(plain - nothing).mean()


def test_many_users_are_unsure_each_of_their_own(model):
  a, b = texts(2, 3, 5)
  confidence = np.random.default_rng(2).choice(SURE, (3, 5))
  many = model.adapt(pairs(a, b, confidence=confidence))
  one = model.adapt(pairs(a[2], b[2], confidence=confidence[2]))
  shown = texts(2, 6, seed=1)
  at_once = model.probability(many, *(np.broadcast_to(x, (3, 6, D)) for x in shown))
  np.testing.assert_allclose(at_once[2], model.probability(one, *shown), atol=1e-5)


@pytest.mark.parametrize(
  ('given', 'expected'),
  [
    ({'confidence': [1, 0.4, 1]}, r'of comparison \[1\] is 0.4; .* \(below 0.5 the other one'),
    ({'confidence': [1, 1, 1.01]}, r'confidence of comparison \[2\] is 1.01; expected the chance'),
    ({'confidence': [np.nan, 1, 1]}, r'confidence of comparison \[0\] is nan; expected'),
    ({'confidence': [1, 1]}, r'confidence must be \[3\], one for each comparison, got \[2\]'),
    ({'confidence': ['sure'] * 3}, r'confidence must be numbers from 0.5 to 1, got dtype <U4'),
    ({'confidence': [90, 75, 60]}, r'is 90; expected .* 0.5, which says nothing, to 1'),
    ({'confidence': [1] * 3, 'weight': [1, -1, 1]}, r'weight of comparison \[1\] is -1; expected'),
    (
      {'confidence': [0.9] * 3, 'outcome': ['chosen', 'strong', 'tie']},
      r"comparison \[2\] is 0.9, and its outcome 'tie' prefers neither: .* give 1 there",
    ),
  ],
)
def test_confidence_that_cannot_be_is_refused(monkeypatch, given, expected):
  monkeypatch.setattr(jaxtyping.config, 'jaxtyping_disable', True)  # as callers run it
  with pytest.raises(ValueError, match=expected):
    pairs(*texts(2, 3), **given)


def test_what_is_no_comparison_needs_no_confidence(model):
  a, b = texts(2, 3)
  mask = np.array([True, False, True])
  confidence = np.array([0.9, np.nan, 0.6])
  profile = model.adapt(pairs(a, b, mask=mask, confidence=confidence))
  history = profile.history
  np.testing.assert_allclose(history.weight[history.mask], [0.64, 0.04], rtol=1e-6)


def test_ties_of_which_somebody_is_sure_are_taken():
  given = pairs(*texts(2, 3), outcome=['tie', 'strong', 'both_bad'], confidence=[1, 0.75, 1])
  np.testing.assert_allclose(given.weight, [1, 0.25, 1])
