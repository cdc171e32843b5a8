"""A Bayesian linear head on learned features, inferred by Newton and Laplace."""

from collections.abc import Sequence

import jax

from metapers.core import meta_learner
from metapers.core.meta_learner import MetaLearner
from metapers.learners import linear_head, options
from metapers.learners.utility import embed, utilities, utility_network
from metapers.networks.linear_mlp import linear_mlp


def bayes_head(
  num_features: int,
  *,
  hidden: Sequence[int] = (64,),
  width: int = 16,
  prior_scale: float = 1.0,
  inner_steps: int = 8,
  num_samples: int = 16,
) -> MetaLearner:
  """Returns u(x) = m(x) + v_u · φ(x) with v_u ~ N(0, I), its posterior by Newton and Laplace.

  Prior: a Gaussian over users' utilities with learned mean m(x) and covariance φ(x)·φ(x'); the last
  layer of φ is the prior's Cholesky factor. Predictive for K = 2: the probit approximation
  σ(μ / √(1 + π σ²/8)) of MacKay; for K > 2 the mean softmax of S draws. Trained through the
  posterior by the query NLL; the gradient is exact at Newton's fixed point at the cost of one step.

  Args:
    num_features: D.
    hidden: widths of the hidden layers of m and φ.
    width: H of φ.
    prior_scale: factor of φ; a small one starts at the pool, and stays there without evidence.
    inner_steps: Newton steps with line search.
    num_samples: S, for K > 2.

  Reference:
    MacKay 1992 (Neural Computation 4(5)); Harrison et al. 2018, arXiv:1807.08912 (ALPaCA);
    Rasmussen and Williams 2006, chapter 3.
  """
  options.at_least_one(width=width, inner_steps=inner_steps, num_samples=num_samples)
  options.positive(prior_scale=prior_scale)
  mean_network = utility_network(num_features, hidden)
  factor_network = linear_mlp(num_features, hidden, width)

  def init(key):
    key_mean, key_factor = jax.random.split(key)
    return {'mean': mean_network.init(key_mean), 'factors': factor_network.init(key_factor)}

  def parts(params, candidates):
    offset = utilities(mean_network, params['mean'], candidates)
    return offset, prior_scale * embed(factor_network, params['factors'], candidates)

  def adapt(params, support, context, key):
    del context
    offset, factors = parts(params, support.candidates)
    return linear_head.laplace(
      offset, factors, support, key, num_steps=inner_steps, num_samples=num_samples
    )

  def score(params, user_state, candidates):
    offset, factors = parts(params, candidates)
    return offset + factors @ user_state.mean

  def predict(params, user_state, candidates):
    offset, factors = parts(params, candidates)
    return linear_head.predictive(offset, factors, user_state, candidates)

  def sample(params, user_state, candidates):
    offset, factors = parts(params, candidates)
    return linear_head.draws(offset, factors, user_state)

  return meta_learner.from_adapt_score(init, adapt, score, predict=predict, sample=sample)
