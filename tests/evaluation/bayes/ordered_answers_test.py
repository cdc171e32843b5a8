"""What it costs to read people who answer by a cumulative link as if by adjacent categories.

`python tests/evaluation/bayes/ordered_answers_test.py` prints the table of docs/people.md.
"""

import numpy as np
import pytest
from scipy import optimize, special

from metapers.core import outcomes

MODELS, SUPPORT, QUERY, PARTICLES = 5, 16, 16, 2000
ORDER = (4, 1, 2, 0, 3)  # outcomes from strongly b to strongly a
KINDS = ('tie', 'strong')


def ordered(gap, temperature, tie, strong):
  """Ordered logit: P [..., 5] of u_a - u_b + logistic noise, cut at ±tie and ±strong."""
  cuts = np.array([-np.inf, -strong, -tie, tie, strong, np.inf])
  return np.diff(special.expit((cuts - gap[..., None]) / temperature))


def adjacent(gap, scale, tie, strong):
  """The choice among outcomes whose utilities differ by those of `core.outcomes`."""
  known = {'': 0.0, 'tie': tie, 'strong': strong}
  table = [outcomes.outcomes_of(KINDS)[n] for n in ORDER]
  slope = np.array([one.weights[0] - one.weights[1] for one in table]) / 2
  offset = np.array([known[one.kind] for one in table])
  return special.softmax(scale * gap[..., None] * slope + offset, -1)


def fitted(gap, answer, forced_gap, forced):
  """Likeliest scale and offsets of adjacent categories, of people whose utilities are known."""

  def nll(theta):
    scale, tie, strong = np.exp(theta[0]), *theta[1:]
    p = np.take_along_axis(adjacent(gap, scale, tie, strong), answer[..., None], -1)
    sign = np.where(forced, 1, -1)
    return -np.log(p).mean() - special.log_expit(scale * forced_gap * sign).mean()

  found = optimize.minimize(nll, np.zeros(3), method='Nelder-Mead').x
  return np.exp(found[0]), *found[1:]


def users(rng, count, temperature, tie, strong):
  """Contrasts of support and query, and answers of people by ordered logit: [U, N, ...]."""
  weights = rng.dirichlet(np.full(MODELS, 0.3), count)
  contrasts = rng.normal(size=(count, SUPPORT + QUERY, MODELS)) * np.sqrt(2)
  gap = np.einsum('unb,ub->un', contrasts, weights)
  p = ordered(gap[:, :SUPPORT], temperature, tie, strong)
  answer = (rng.random(p.shape[:-1])[..., None] > np.cumsum(p, -1)).sum(-1)
  forced = rng.random((count, QUERY)) < special.expit(gap[:, SUPPORT:] / temperature)
  return contrasts, gap, np.minimum(answer, 4), forced


def measured(temperature=0.5, tie=0.4, strong=1.2, count=400, seed=0):
  """NLL and accuracy [U] of forced choices, by what the support was read as."""
  rng = np.random.default_rng(seed)
  _, gap, answer, forced = users(rng, 2000, temperature, tie, strong)
  scale, *offsets = fitted(gap[:, :SUPPORT], answer, gap[:, SUPPORT:], forced)
  contrasts, _, answer, forced = users(rng, count, temperature, tie, strong)
  particles = rng.dirichlet(np.full(MODELS, 0.3), PARTICLES)

  def choices_alone(gap):
    first = special.expit(gap / temperature)
    return np.stack([1 - first, 1 - first, np.ones_like(first), first, first], -1)

  readings = {
    'ordered logit, as it is': (lambda d: ordered(d, temperature, tie, strong), 1 / temperature),
    'adjacent categories': (lambda d: adjacent(d, scale, *offsets), scale),
    'choices alone': (choices_alone, 1 / temperature),
  }
  found = {name: [] for name in readings}
  for one in range(count):
    gaps = contrasts[one] @ particles.T  # [N, S]
    for name, (likelihood, slope) in readings.items():
      p = likelihood(gaps[:SUPPORT])[np.arange(SUPPORT), :, answer[one]]
      weights = special.softmax(np.log(np.maximum(p, 1e-300)).sum(0))
      first = special.expit(slope * gaps[SUPPORT:]) @ weights
      right = np.where(forced[one], first, 1 - first)
      found[name].append((-np.log(right).mean(), 100 * (right > 0.5).mean()))
  return {name: np.array(rows) for name, rows in found.items()}


def test_adjacent_categories_read_ordered_logit_nearly_as_well_as_itself():
  found = measured(temperature=0.2, count=150)
  true, assumed, alone = (found[name][:, 0] for name in found)
  cost, gain = assumed - true, alone - true
  assert gain.mean() > 3 * gain.std() / np.sqrt(gain.size)
  assert cost.mean() < 0.25 * gain.mean()


def test_each_link_is_a_distribution_over_five_answers():
  gap = np.linspace(-3, 3, 7)
  for p in (ordered(gap, 0.5, 0.4, 1.2), adjacent(gap, 2.0, 0.4, -0.6)):
    np.testing.assert_allclose(p.sum(-1), 1)
    np.testing.assert_allclose(p, p[::-1, ::-1], atol=1e-12)
    assert (p[-1].argmax(), p[3].argmax(), p[0].argmax()) == (4, 2, 0)


@pytest.mark.parametrize('gap', [0.3, -1.1])
def test_adjacent_categories_are_those_of_the_simulator(gap):
  import jax.numpy as jnp

  widths = {'tie_width': 0.4, 'outside_utility': 0.0, 'strong_width': 1.2}
  answers = outcomes.Answers(KINDS, tuple(outcomes.offset(kind, **widths) for kind in KINDS))
  utilities = outcomes.utilities_of(jnp.array([gap / 2, -gap / 2]), answers)
  expected = special.softmax(np.asarray(utilities)[list(ORDER)])
  np.testing.assert_allclose(adjacent(np.array(gap), 1.0, *answers.offsets), expected, rtol=1e-5)


if __name__ == '__main__':
  for temperature in (0.2, 0.5, 1.0):
    rows = measured(temperature)
    true = rows['ordered logit, as it is']
    for name, row in rows.items():
      error = 1.96 * (row - true).std(0) / np.sqrt(len(row))
      differs = (row - true).mean(0)
      print(temperature, name, row.mean(0).round(4), differs.round(4), error.round(4))
