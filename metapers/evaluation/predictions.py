"""What a learner or a reference predicts for the users of an evaluation set."""

from typing import NamedTuple

from metapers.core.types import Array, Float


class Predictions(NamedTuple):
  """Predictions for T users at each of L numbers of shots.

  log_probs: [L, T, N, K] log-probability of each candidate of each query comparison, in nats.
  slate_scores: [L, T, M, R] expected utility of every response of every slate.
  """

  log_probs: Float[Array, 'L T N K']
  slate_scores: Float[Array, 'L T M R']
