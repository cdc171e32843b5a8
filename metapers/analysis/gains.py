"""For how many users one learner predicts better, and for how many worse, than another."""

import jax
import numpy as np

from metapers.core.types import Float
from metapers.evaluation import bootstrap, metrics
from metapers.evaluation.estimates import EvaluationSet
from metapers.evaluation.predictions import Predictions

SAME = 1e-6  # accuracies that are less apart differ by rounding only


def user_accuracy(evaluated: EvaluationSet, predictions: Predictions) -> Float[np.ndarray, 'L T']:
  """Returns the accuracy on each user's own comparisons: [L, T]; NaN of a user who has none."""
  tasks = evaluated.tasks
  observed = metrics.numerators(predictions, tasks)['query']['accuracy']
  return jax.device_get(metrics.per_user(observed, metrics.denominators(tasks)['query']))


def shares(
  evaluated: EvaluationSet,
  accuracy: Float[np.ndarray, 'L T'],
  reference: Float[np.ndarray, 'L T'],
) -> tuple[Float[np.ndarray, 'J L'], Float[np.ndarray, 'J L']]:
  """Returns the shares of users whose accuracy is lower, and higher, than of a reference.

  Users are resampled, each with the accuracy that was measured.

  Args:
    evaluated: of T users.
    accuracy: of a learner, as of `user_accuracy`.
    reference: of another.
  """
  there = np.isfinite(reference[0])
  gain = (accuracy - reference)[:, there]
  counts = evaluated.draws.users[:, there]
  total = bootstrap.nan_if_none(counts.sum(-1, keepdims=True))
  return counts @ (gain < -SAME).T / total, counts @ (gain > SAME).T / total
