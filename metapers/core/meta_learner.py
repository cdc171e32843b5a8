"""The protocol of a meta-learner: seven pure functions for ONE user.

`vmap` over users is written only in `training/step.py` and in `evaluation/`. Parameters and user
states are pytrees of arrays: parameters are nested dicts, states are whatever one would store.
"""

from typing import NamedTuple

from metapers.core import choice_model, task
from metapers.core.task import Candidates, Choices, Task
from metapers.core.types import Array, Callable, Float, Metrics, Params, PRNGKey, Scalar, UserState

Init = Callable[[PRNGKey], Params]
Adapt = Callable[[Params, Choices, Array, PRNGKey], UserState]
Score = Callable[[Params, UserState, Candidates], Float[Array, 'N K']]
Predict = Callable[[Params, UserState, Candidates], Float[Array, 'N K']]
Loss = Callable[[Params, Task, PRNGKey], tuple[Scalar, Metrics]]
Prepare = Callable[[Params, Choices, PRNGKey], Params]
Sample = Callable[[Params, UserState, Candidates], Float[Array, 'S N K']]


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
  sample: `(params, user_state, candidates) -> [S, N, K]` utilities under S draws from the user's
    posterior, the same draws for all candidates; deterministic, for the state holds what is random.
    A learner without a posterior has the one draw `score`.
  """

  init: Init
  adapt: Adapt
  score: Score
  predict: Predict
  loss: Loss
  prepare: Prepare
  sample: Sample


def keep_params(params: Params, histories: Choices, key: PRNGKey) -> Params:
  """The `prepare` of a learner that needs none."""
  del histories, key
  return params


def query_metrics(log_p: Float[Array, 'N K'], query: Choices) -> Metrics:
  """Returns {'nll': nats, 'accuracy': in [0, 1]} of the real query comparisons."""
  return {'nll': choice_model.nll(log_p, query), 'accuracy': choice_model.accuracy(log_p, query)}


def from_adapt_score(
  init: Init,
  adapt: Adapt,
  score: Score,
  *,
  predict: Predict | None = None,
  loss: Loss | None = None,
  prepare: Prepare = keep_params,
  sample: Sample | None = None,
) -> MetaLearner:
  """Builds a learner from three functions; most need no more.

  None of the functions given ever sees what stands in masked entries: it is zeroed before.

  Args:
    init: `(key) -> params`.
    adapt: `(params, support, context, key) -> user_state`.
    score: `(params, user_state, candidates) -> [N, K]`.
    predict: log-probabilities [N, K]; by default the choice model on `score`.
    loss: `(params, task, key) -> (scalar, metrics)`; by default the query NLL after adapting.
    prepare: what happens once after training; by default nothing.
    sample: utilities [S, N, K] under S draws from the posterior; by default `score` alone.
  """

  def default_predict(params, user_state, candidates):
    return choice_model.log_probs(score(params, user_state, candidates), candidates.mask)

  predict = predict or default_predict

  def default_sample(params, user_state, candidates):
    return score(params, user_state, candidates)[None]

  sample = sample or default_sample

  def default_loss(params, seen, key):
    user_state = adapt(params, seen.support, seen.context, key)
    metrics = query_metrics(predict(params, user_state, seen.query.candidates), seen.query)
    return metrics['nll'], metrics

  loss = loss or default_loss

  def clean_adapt(params, support, context, key):
    return adapt(params, task.drop_masked(support), context, key)

  def clean_score(params, user_state, candidates):
    return score(params, user_state, task.fill_masked(candidates))

  def clean_predict(params, user_state, candidates):
    return predict(params, user_state, task.fill_masked(candidates))

  def clean_loss(params, seen, key):
    support, query = task.drop_masked(seen.support), task.drop_masked(seen.query)
    return loss(params, seen._replace(support=support, query=query), key)

  def clean_prepare(params, histories, key):
    return prepare(params, task.drop_masked(histories), key)

  def clean_sample(params, user_state, candidates):
    return sample(params, user_state, task.fill_masked(candidates))

  prepare = keep_params if prepare is keep_params else clean_prepare
  return MetaLearner(
    init, clean_adapt, clean_score, clean_predict, clean_loss, prepare, clean_sample
  )
