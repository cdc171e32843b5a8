import numpy as np
import pytest

from metapers.analysis import budget
from metapers.analysis.budget import Surface

TRUE = Surface(0.93, 0.9, (0.3, 0.5))
USERS, LABELS = (
  np.array(values, float)
  for values in zip(*[(m, n) for m in (50, 200, 1000) for n in (8, 32, 128)])
)


def measured(noise=0.0):
  rng = np.random.default_rng(0)
  return TRUE.accuracy(USERS, LABELS) + noise * rng.standard_normal(USERS.size)


def test_a_surface_is_found_again():
  found = budget.fit(USERS, LABELS, measured())
  np.testing.assert_allclose(found[:2], TRUE[:2], atol=2e-3)
  np.testing.assert_allclose(found.exponents, TRUE.exponents, atol=0.02)


def test_errors_are_those_of_budgets_that_the_fit_did_not_see():
  exact, noisy = (budget.errors_unseen(USERS, LABELS, measured(noise)) for noise in (0.0, 0.01))
  assert exact.max() < 1e-3
  fitted = budget.fit(USERS, LABELS, measured(0.01)).accuracy(USERS, LABELS)
  assert np.median(noisy) > np.median(np.abs(fitted - measured(0.01)))


def test_the_best_design_is_that_of_a_search_over_all():
  users, labels = (50, 1000), (8, 128)
  found = budget.best(TRUE, 10_000, users=users, labels=labels)
  grid = [
    (float(TRUE.accuracy(np.array([m], float), np.array([n], float))[0]), m, n)
    for n in range(labels[0], labels[1] + 1)
    for m in range(users[0], users[1] + 1)
    if m * n <= 10_000
  ]
  expected, m, n = max(grid)
  assert (found.num_users, found.num_labels) == (m, n)
  assert found.accuracy == pytest.approx(expected)


def test_what_was_not_measured_is_not_planned():
  with pytest.raises(ValueError, match='below what was measured, 50 users with 8'):
    budget.best(TRUE, 399, users=(50, 1000), labels=(8, 128))
  for kept, message in (
    (LABELS < 100, '6 budgets of 3 and 2'),
    (np.isin(np.arange(9), (0, 1, 3, 4, 8)), '5 budgets of 3 and 3'),
    (USERS < 100, '3 budgets of 1 and'),
  ):
    with pytest.raises(ValueError, match=f'got {message}'):
      budget.fit(USERS[kept], LABELS[kept], measured()[kept])


def test_as_many_budgets_as_are_asked_for_have_errors():
  few = np.isin(np.arange(9), (0, 1, 2, 4, 6, 8))
  assert few.sum() == budget.LEAST_POINTS
  given = USERS[few], LABELS[few], measured()[few]
  budget.fit(*given)
  assert np.isfinite(budget.errors_unseen(*given)).all()
