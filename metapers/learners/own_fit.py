"""A fit of the user's own that starts from what another learner makes of their comparisons."""

from typing import NamedTuple

from metapers.core import meta_learner
from metapers.core.meta_learner import MetaLearner
from metapers.core.types import UserState
from metapers.learners import linear_head
from metapers.learners.linear_head import Posterior


class OwnFit(NamedTuple):
  """What the other learner holds of the user, and the posterior of w beside it, in units of σ."""

  base: UserState
  posterior: Posterior


def own_fit(
  base: MetaLearner, *, scale: float, inner_steps: int = 8, num_samples: int = 16
) -> MetaLearner:
  """Returns u(x) = u_base(x | D) + w · x with w ~ N(0, σ² I) of the user's own.

  The posterior of w is Laplace's approximation. The base has read the same comparisons D: where it
  explains them the likelihood is flat and w stays near 0, and where it does not w is fitted to the
  rest. Of the base only its utilities count: how sure it is of them does not. Without comparisons
  predictions are therefore less sure, by the prior of w, than softmax(u_base), which is what a base
  without a posterior predicts; one with a posterior may itself be less sure than that. It has the
  base's parameters and no others, and the base's training; the predictive is that of `bayes_head`.

  Args:
    base: the learner that it starts from; candidates are vectors [D].
    scale: σ, in logits per unit of a feature.
    inner_steps: Newton steps with line search.
    num_samples: S, draws of w, for K > 2 and for questions.
  """

  def parts(params, state, candidates):
    return base.score(params, state, candidates), scale * candidates.features

  def adapt(params, support, context, key):
    state = base.adapt(params, support, context, key)
    offset, factors = parts(params, state, support.candidates)
    posterior = linear_head.laplace(
      offset, factors, support, key, num_steps=inner_steps, num_samples=num_samples
    )
    return OwnFit(state, posterior)

  def score(params, user_state, candidates):
    offset, factors = parts(params, user_state.base, candidates)
    return offset + factors @ user_state.posterior.mean

  def predict(params, user_state, candidates):
    offset, factors = parts(params, user_state.base, candidates)
    return linear_head.predictive(offset, factors, user_state.posterior, candidates)

  def sample(params, user_state, candidates):
    return linear_head.draws(*parts(params, user_state.base, candidates), user_state.posterior)

  return meta_learner.from_adapt_score(
    base.init, adapt, score, predict=predict, loss=base.loss, sample=sample
  )
