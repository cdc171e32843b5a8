"""The protocol of a meta-learner: pure functions for ONE user.

Who trains or evaluates maps over users by `vmap`; a learner never does. Parameters and user states
are pytrees of arrays: parameters are nested dicts, states are whatever one would store.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core import choice_model, task
from metapers.core.task import Candidates, Choices, Task
from metapers.core.types import (
  Array,
  Callable,
  Context,
  Float,
  Key,
  Metrics,
  Params,
  PRNGKey,
  Scalar,
  UserState,
)

Init = Callable[[PRNGKey], Params]
Adapt = Callable[[Params, Choices, Context, PRNGKey], UserState]
Score = Callable[[Params, UserState, Candidates], Float[Array, 'N K']]
Predict = Callable[[Params, UserState, Candidates], Float[Array, 'N K']]
Loss = Callable[[Params, Task, PRNGKey], tuple[Scalar, Metrics]]
Sample = Callable[[Params, UserState, Candidates], Float[Array, 'S N K']]
FromHistories = Callable[[Params, Task, PRNGKey], Params]
Update = Callable[[Params, UserState, Choices, Context, PRNGKey], UserState]
BatchLoss = Callable[[Params, Task, Key[Array, 'T']], tuple[Float[Array, 'T'], Metrics]]


def keep_params(params: Params, histories: Task, key: PRNGKey) -> Params:
  """Returns the parameters as they are: the `start` and `prepare` of a learner that needs none."""
  del histories, key
  return params


class MetaLearner(NamedTuple):
  """How a population is learned from, and how one new user is inferred; build it by keywords.

  init: `(key) -> params`.
  adapt: `(params, support, context, key) -> user_state`; shapes must not depend on the data.
  score: `(params, user_state, candidates) -> [N, K]` expected utilities, for picking.
  predict: `(params, user_state, candidates) -> [N, K]` log-probabilities; deterministic. Apart
    from `score`, for a Bayesian learner averages probabilities, not utilities.
  loss: `(params, task, key) -> (scalar, metrics)`; what meta-training minimises.
  sample: `(params, user_state, candidates) -> [S, N, K]` utilities under S draws from the user's
    posterior, the same draws for all candidates; deterministic, for the state holds what is random.
    A learner without a posterior has the one draw `score`.
  start: `(params, histories, key) -> params`; once before training, on the known users: a start by
    SVD. Like `prepare`, it changes neither shapes nor dtypes.
  prepare: `(params, histories, key) -> params`; after training and before every validation and
    export: priors, banks, graphs. `histories` are tasks [U, ...] whose support holds what each
    known user did (see `Population`), and whose query is empty. Both may compute on the host; what
    they loop over in JAX they compile themselves, for `prepare` is called again and again.
  update: `(params, user_state, comparison, context, key) -> user_state`: one more comparison,
    Choices with N = 1, without reading all again; equals `adapt` to all of them to 1e-5. None where
    a learner adapts anew.
  batch_loss: `(params, tasks, keys) -> (losses [T], metrics)` of users whose losses are coupled, in
    place of `loss`; None where users are independent.
  has_posterior: whether `sample` draws from a posterior.
  """

  init: Init
  adapt: Adapt
  score: Score
  predict: Predict
  loss: Loss
  sample: Sample
  start: FromHistories = keep_params
  prepare: FromHistories = keep_params
  update: Update | None = None
  batch_loss: BatchLoss | None = None
  has_posterior: bool = False


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
  sample: Sample | None = None,
  start: FromHistories | None = None,
  prepare: FromHistories | None = None,
  update: Update | None = None,
  batch_loss: BatchLoss | None = None,
) -> MetaLearner:
  """Returns a learner built from three functions; most need no more.

  None of the functions given ever sees what stands in masked entries: it is zeroed before. A masked
  comparison leaves the user state as it is.

  Args:
    init: `(key) -> params`.
    adapt: `(params, support, context, key) -> user_state`.
    score: `(params, user_state, candidates) -> [N, K]`.
    predict: log-probabilities [N, K]; by default the choice model on `score`.
    loss: `(params, task, key) -> (scalar, metrics)`; by default the query NLL after adapting.
    sample: utilities [S, N, K] under S draws from the posterior; by default `score` alone, and the
      learner counts as one without a posterior.
    start: what happens once before training; by default nothing.
    prepare: what happens after training and before validation and export; by default nothing.
    update: one more comparison; by default a learner adapts anew.
    batch_loss: losses [T] of coupled users; by default `loss` of each.
  """

  def default_predict(params, user_state, candidates):
    return choice_model.log_probs(score(params, user_state, candidates), candidates.mask)

  def default_sample(params, user_state, candidates):
    return score(params, user_state, candidates)[None]

  def default_loss(params, given, key):
    user_state = adapt(params, given.support, given.context, key)
    log_p = (predict or default_predict)(params, user_state, given.query.candidates)
    metrics = query_metrics(log_p, given.query)
    return metrics['nll'], metrics

  return MetaLearner(
    init=init,
    adapt=_on_real_support(adapt),
    score=_on_real_candidates(score),
    predict=_on_real_candidates(predict or default_predict),
    loss=_on_real_tasks(loss or default_loss),
    sample=_on_real_candidates(sample or default_sample),
    start=keep_params if start is None else _on_real_tasks(start),
    prepare=keep_params if prepare is None else _on_real_tasks(prepare),
    update=None if update is None else _on_real_comparison(update),
    batch_loss=None if batch_loss is None else _on_real_tasks(batch_loss),
    has_posterior=sample is not None,
  )


def _on_real_support(adapt: Adapt) -> Adapt:
  def clean(params, support, context, key):
    if not support.choice.shape[0]:  # one that is masked: who reads one after another has a first
      support = task.pad_to(support, 1)
    return adapt(params, task.drop_masked(support), context, key)

  return clean


def _on_real_candidates(function: Callable) -> Callable:
  def clean(params, user_state, candidates):
    return function(params, user_state, task.fill_masked(candidates))

  return clean


def _on_real_tasks(function: Callable) -> Callable:
  def clean(params, given, key):
    support, query = task.drop_masked(given.support), task.drop_masked(given.query)
    return function(params, given._replace(support=support, query=query), key)

  return clean


def _on_real_comparison(update: Update) -> Update:
  def clean(params, user_state, comparison, context, key):
    updated = update(params, user_state, task.drop_masked(comparison), context, key)
    is_real = comparison.mask[0]
    return jax.tree.map(lambda new, old: jnp.where(is_real, new, old), updated, user_state)

  return clean
