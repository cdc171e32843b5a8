"""The protocol of a meta-learner: six pure functions for ONE user.

`vmap` over users is written only in `training/step.py` and in `evaluation/`. Parameters and user
states are pytrees of arrays: parameters are nested dicts, states are whatever one would store.
"""

from typing import NamedTuple

from metapers.core import choice_model
from metapers.core.task import Candidates, Choices, Task
from metapers.core.types import Array, Callable, Float, Metrics, Params, PRNGKey, Scalar, UserState

Init = Callable[[PRNGKey], Params]
Adapt = Callable[[Params, Choices, Array, PRNGKey], UserState]
Score = Callable[[Params, UserState, Candidates], Float[Array, 'N K']]
Predict = Callable[[Params, UserState, Candidates], Float[Array, 'N K']]
Loss = Callable[[Params, Task, PRNGKey], tuple[Scalar, Metrics]]
Prepare = Callable[[Params, Choices, PRNGKey], Params]


class MetaLearner(NamedTuple):
  """How a population is learned from, and how one new user is inferred.

  init: `(key) -> params`.
  adapt: `(params, support, context, key) -> user_state`; shapes must not depend on the data.
  score: `(params, user_state, candidates) -> [N, K]` expected utilities, for picking.
  predict: `(params, user_state, candidates) -> [N, K]` log-probabilities; deterministic. Apart
    from `score`, for a Bayesian learner averages probabilities, not utilities.
  loss: `(params, task, key) -> (scalar, metrics)`; what meta-training minimises.
  prepare: `(params, histories, key) -> params`; once after training, on the seen users'
    comparisons `[U, N, ...]`: priors, banks, graphs. The default returns params.
  """

  init: Init
  adapt: Adapt
  score: Score
  predict: Predict
  loss: Loss
  prepare: Prepare


def keep_params(params: Params, histories: Choices, key: PRNGKey) -> Params:
  """The `prepare` of a learner that needs none."""
  del histories, key
  return params


def query_metrics(log_p: Float[Array, 'N K'], query: Choices) -> Metrics:
  """Returns {'nll': nats, 'accuracy': in [0, 1]} of the real query comparisons."""
  return {'nll': choice_model.nll(log_p, query), 'accuracy': choice_model.accuracy(log_p, query)}


def predict_from_score(score: Score) -> Predict:
  """Derives `predict` from `score` by the choice model: log softmax over real candidates."""

  def predict(params, user_state, candidates):
    return choice_model.log_probs(score(params, user_state, candidates), candidates.mask)

  return predict


def loss_from_predict(adapt: Adapt, predict: Predict) -> Loss:
  """Derives the usual meta-training loss: NLL of the query after adapting to the support."""

  def loss(params, task, key):
    user_state = adapt(params, task.support, task.context, key)
    metrics = query_metrics(predict(params, user_state, task.query.candidates), task.query)
    return metrics['nll'], metrics

  return loss


def from_adapt_score(
  init: Init, adapt: Adapt, score: Score, *, prepare: Prepare = keep_params
) -> MetaLearner:
  """Builds a learner from three functions; most need no more.

  `predict` is the choice model on `score`; `loss` is the query NLL after adapting to the support.
  """
  predict = predict_from_score(score)
  return MetaLearner(init, adapt, score, predict, loss_from_predict(adapt, predict), prepare)
