"""What it costs to read how sure people were by weights, where answers are flipped by that.

`python tests/evaluation/bayes/confident_answers_test.py` prints the tables of docs/people.md.
"""

import itertools
from typing import NamedTuple

import numpy as np
from scipy import special

from metapers.serving import fitting
from metapers.serving.confidence import information
from metapers.serving.personalizer import Personalizer, pairs

MODELS, SUPPORT, QUERY, PARTICLES = 5, 16, 16, 2000
CONFIDENCE = (0.6, 0.75, 0.9, 1.0)  # c, of each answer one
SCALES = (1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0, 11.0)  # of who knows no noise, or not the flips
LEAST = 1e-3  # a prediction that 2,000 particles agree in is no certainty
EXACT = 'flips, as they are'
WEIGHTS = {
  'weights (2c - 1)²': information,
  'weights 2c - 1': lambda confidence: 2 * confidence - 1,  # the slope of log P at u_a = u_b
  'weights 1 - H(c)': lambda confidence: 1 - bits(confidence),  # the capacity of the channel
  'confidence ignored': np.ones_like,
  'dropped below .75': lambda confidence: (confidence >= 0.75) * 1.0,
}


def bits(confidence):
  return (special.entr(confidence) + special.entr(1 - confidence)) / np.log(2)


class People(NamedTuple):
  """Pairs of candidates [U, N, 2, B], how sure people were of the first SUPPORT of N, and whether
  the first candidate was chosen: flipped in the support, forced choices in the query."""

  candidates: np.ndarray
  confidence: np.ndarray
  first: np.ndarray


def flipped(p, confidence):
  """P(a) of who prefers a with p, and says otherwise with rate 1 - c."""
  return confidence * p + (1 - confidence) * (1 - p)


def slope_of(temperature):
  return 1 / temperature if temperature else np.inf


def people(rng, count, temperature, is_sure=False):
  weights = rng.dirichlet(np.full(MODELS, 0.3), count)
  candidates = rng.normal(size=(count, SUPPORT + QUERY, 2, MODELS))
  confidence = rng.choice(CONFIDENCE, (count, SUPPORT))
  gap = np.einsum('unb,ub->un', candidates[:, :, 0] - candidates[:, :, 1], weights)
  p = special.expit(slope_of(temperature) * gap)
  if not is_sure:
    p[:, :SUPPORT] = flipped(p[:, :SUPPORT], confidence)
  return People(candidates, confidence, rng.random(p.shape) < p)


def by_flips(log_p, confidence):
  """Log-likelihood [S] of answers whose log P without flips is [N, S]."""
  p = flipped(np.exp(log_p), confidence[:, None])
  return np.log(np.maximum(p, 1e-300)).sum(0)


def by_weights(weight):
  return lambda log_p, confidence: weight(confidence) @ log_p


def judged(first, chance):
  """NLL and % right [..., 2] of forced choices by the chance that the first is chosen."""
  right = np.clip(np.where(first, chance, 1 - chance), LEAST, 1 - LEAST)
  return np.stack([-np.log(right).mean(-1), 100 * (right > 0.5).mean(-1)], -1)


def predicted(given, particles, slope, readings):
  """The same [U, 2] by the posterior under every reading of the support."""
  found = {name: [] for name in readings}
  for candidates, confidence, first in zip(*given):
    gap = (candidates[:, 0] - candidates[:, 1]) @ particles.T  # [N, S]
    sign = np.where(first[:SUPPORT], 1, -1)[:, None]
    log_p = special.log_expit(slope * sign * gap[:SUPPORT])
    forced = special.expit(slope * gap[SUPPORT:])
    for name, likelihood in readings.items():
      chance = forced @ special.softmax(likelihood(log_p, confidence))
      found[name].append(judged(first[SUPPORT:], chance))
  return {name: np.array(rows) for name, rows in found.items()}


def measured(temperature, count=400, seed=0):
  """NLL and % right [U, 2] by reading; weights at the scale that predicts other people best."""
  rng = np.random.default_rng(seed)
  known, given = (people(rng, count, temperature) for _ in range(2))
  particles = rng.dirichlet(np.full(MODELS, 0.3), PARTICLES)
  readings = {name: by_weights(weight) for name, weight in WEIGHTS.items()}
  fits = {scale: predicted(known, particles, scale, readings) for scale in SCALES}
  found = predicted(given, particles, slope_of(temperature), {EXACT: by_flips})
  for name, likelihood in readings.items():
    scale = min(SCALES, key=lambda scale: fits[scale][name][:, 0].mean())
    found |= predicted(given, particles, scale, {name: likelihood})
  return found


def served(model, given):
  """The same by a model that is served."""
  a, b = given.candidates[:, :, 0], given.candidates[:, :, 1]
  known, asked = slice(SUPPORT), slice(SUPPORT, None)
  first = given.first[:, known, None]
  chosen = np.where(first, a[:, known], b[:, known])
  rejected = np.where(first, b[:, known], a[:, known])
  told = {name: {'weight': weight(given.confidence)} for name, weight in WEIGHTS.items()}
  told['weights (2c - 1)²'] = {'confidence': given.confidence}
  found = {}
  for name, what in told.items():
    chance = model.probability(
      model.adapt(pairs(chosen, rejected, **what)), a[:, asked], b[:, asked]
    )
    found[name] = judged(given.first[:, asked], chance)
  return found


def shipped():
  typical = np.random.default_rng(0).normal(size=(4000, MODELS))
  return Personalizer.load_pretrained(scores=typical)


def fitted(temperature, count=400):
  """`gaussian_prior` of people who were sure of all that they chose."""
  known = people(np.random.default_rng(1), count, temperature, is_sure=True)
  size = known.first.size
  given = fitting.Given(
    known.candidates.reshape(size, 2, MODELS),
    1 - known.first.reshape(size).astype(int),
    np.repeat(np.arange(count), SUPPORT + QUERY),
  )
  training = fitting.training(0, 1e-3)
  return Personalizer(fitting.trained(given, 'gaussian_prior', training, hidden=(), seed=0))


def test_the_likelihood_of_flips_is_the_sum_over_all_of_them():
  rng = np.random.default_rng(0)
  log_p = special.log_expit(rng.normal(size=(6, 4)))
  confidence = np.array([0.5, 0.6, 0.75, 0.9, 1.0, 0.8])
  total = np.zeros(4)
  for flips in itertools.product([False, True], repeat=6):
    chance = np.where(flips, 1 - confidence, confidence).prod()
    said = np.where(np.array(flips)[:, None], 1 - np.exp(log_p), np.exp(log_p))
    total += chance * said.prod(0)
  np.testing.assert_allclose(by_flips(log_p, confidence), np.log(total), rtol=1e-9)


def test_answers_are_flipped_as_often_as_people_say():
  given, sure = (people(np.random.default_rng(0), 1000, 0, is_sure=is_sure) for is_sure in (0, 1))
  differs = given.first != sure.first
  for confidence in CONFIDENCE:
    rate = differs[:, :SUPPORT][given.confidence == confidence].mean()
    assert abs(rate - (1 - confidence)) < 0.03
  assert not differs[:, SUPPORT:].any()


def assert_above(gain, errors=3):
  """That a mean over people is above 0 by so many standard errors."""
  assert gain.mean() > errors * gain.std() / np.sqrt(gain.size)


def test_weights_read_flips_nearly_as_well_as_the_likelihood():
  found = {name: rows[:, 0] for name, rows in measured(temperature=0.2).items()}
  cost, _, _, ignored, dropped = (found[name] - found[EXACT] for name in WEIGHTS)
  assert_above(ignored - cost)
  assert_above(dropped - cost)
  assert 0 < cost.mean() < 0.4 * ignored.mean()


def test_the_shipped_model_predicts_better_when_told_how_sure_people_were():
  found = served(shipped(), people(np.random.default_rng(2), 200, 0.2))
  told, slope, _, ignored, _ = (rows[:, 0] for rows in found.values())
  assert_above(slope - told)
  assert_above(ignored - told)


if __name__ == '__main__':

  def show(temperature, what, rows, beside):
    for name, row in rows.items():
      differs = row - rows[beside]
      error = 1.96 * differs.std(0) / np.sqrt(len(row))
      print(temperature, what, name, row.mean(0).round(5), differs.mean(0).round(4), error.round(4))

  np.set_printoptions(suppress=True)
  for temperature in (0, 0.2, 0.5):
    show(temperature, 'particles', measured(temperature), EXACT)
    given = people(np.random.default_rng(2), 400, temperature)
    for what, model in (('shipped', shipped()), ('gaussian_prior', fitted(temperature))):
      show(temperature, what, served(model, given), 'weights (2c - 1)²')
