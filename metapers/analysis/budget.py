"""How many known users, and how many labels of each, for a budget of labels."""

import itertools
from typing import NamedTuple

import numpy as np
from scipy import optimize

from metapers.core.types import Float

LEAST_POINTS = 6  # one more than the surface has parameters, when one is left out
LEAST_LEVELS = 3  # of users and of labels: two numbers tell no exponent
LEAST_EXPONENT, MOST_EXPONENT = 0.02, 2.0


class Surface(NamedTuple):
  """accuracy(m, n) = top - cost m^-a n^-b, of m users with n labels each.

  top: what endless labels give. cost: of one label of one user, never negative. exponents: a and b;
  where a = b all designs of as many labels are alike, else the best one has as few as may be of the
  users, or of the labels each.
  """

  top: float
  cost: float
  exponents: tuple[float, float]

  def accuracy(
    self, num_users: Float[np.ndarray, 'L'], num_labels: Float[np.ndarray, 'L']
  ) -> Float[np.ndarray, 'L']:
    """Returns the accuracy, in [0, 1], that is expected of each pair of numbers."""
    a, b = self.exponents
    return self.top - self.cost * num_users**-a * num_labels**-b


class Design(NamedTuple):
  """num_users users with num_labels labels each, and the accuracy that is expected of them."""

  num_users: int
  num_labels: int
  accuracy: float


def fit(
  num_users: Float[np.ndarray, 'L'],
  num_labels: Float[np.ndarray, 'L'],
  accuracy: Float[np.ndarray, 'L'],
) -> Surface:
  """Returns the surface of least squared error through measured accuracies.

  Args:
    num_users: m of each measurement. num_labels: n of each. accuracy: of each, in [0, 1].

  Raises:
    ValueError: for too few measurements, or too few numbers of users or of labels.

  Reference:
    Of the quantities in the bound of Barreto et al. 2025 (RFM, NeurIPS), m and n. There a part that
    more people make small and one that more labels do are added; a sum of two such powers is off by
    more on budgets that it was not fitted to, for what is learned of all can be of any people.
  """
  sizes = len(accuracy), np.unique(num_users).size, np.unique(num_labels).size
  if sizes[0] < LEAST_POINTS or min(sizes[1:]) < LEAST_LEVELS:
    raise ValueError(
      f'a plan needs at least {LEAST_POINTS} measured budgets, of {LEAST_LEVELS} or more numbers '
      f'of users and of labels; got {sizes[0]} budgets of {sizes[1]} and {sizes[2]}'
    )
  return _least_squares(num_users, num_labels, accuracy)


def _least_squares(
  num_users: Float[np.ndarray, 'L'],
  num_labels: Float[np.ndarray, 'L'],
  accuracy: Float[np.ndarray, 'L'],
) -> Surface:
  fewest = float(num_users.min()), float(num_labels.min())
  users, labels = num_users / fewest[0], num_labels / fewest[1]

  def residuals(theta):
    top, cost, a, b = theta
    return Surface(top, cost, (a, b)).accuracy(users, labels) - accuracy

  low, high = [0, 0, LEAST_EXPONENT, LEAST_EXPONENT], [1, 1, MOST_EXPONENT, MOST_EXPONENT]
  starts = [[accuracy.max(), 0.1, a, b] for a, b in itertools.product((0.3, 1.0), repeat=2)]
  found = [optimize.least_squares(residuals, start, bounds=(low, high)) for start in starts]
  top, cost, a, b = min(found, key=lambda one: one.cost).x.tolist()
  return Surface(top, cost * fewest[0] ** a * fewest[1] ** b, (a, b))


def errors_unseen(
  num_users: Float[np.ndarray, 'L'],
  num_labels: Float[np.ndarray, 'L'],
  accuracy: Float[np.ndarray, 'L'],
) -> Float[np.ndarray, 'L']:
  """Returns how far each measurement is from a surface fitted to all others, in accuracy."""

  def error(left_out):
    rest = np.arange(len(accuracy)) != left_out
    surface = _least_squares(num_users[rest], num_labels[rest], accuracy[rest])
    own = slice(left_out, left_out + 1)
    return surface.accuracy(num_users[own], num_labels[own])[0] - accuracy[left_out]

  return np.abs([error(left_out) for left_out in range(len(accuracy))])


def best(
  surface: Surface, budget: int, *, users: tuple[int, int], labels: tuple[int, int]
) -> Design:
  """Returns the design of at most `budget` labels in all with the highest expected accuracy.

  Args:
    surface: as fitted.
    budget: m·n at most.
    users: the fewest and the most users: as measured, for a surface says little beyond.
    labels: the fewest and the most labels of each.

  Raises:
    ValueError: for a budget that does not pay for the fewest of both.
  """
  if budget < users[0] * labels[0]:
    raise ValueError(
      f'a budget of {budget} labels is below what was measured, {users[0]} users with {labels[0]} '
      'labels each: measure smaller ones'
    )
  each = np.arange(labels[0], labels[1] + 1)
  counts = np.minimum(budget // each, users[1])
  fits = counts >= users[0]
  each, counts = each[fits].astype(float), counts[fits].astype(float)
  expected = surface.accuracy(counts, each)
  at = int(np.argmax(expected))
  return Design(int(counts[at]), int(each[at]), float(expected[at]))
