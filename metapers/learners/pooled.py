"""No personalisation, and personalisation without meta-learning: the two baselines."""

from collections.abc import Sequence

from metapers.core import meta_learner
from metapers.core.meta_learner import MetaLearner
from metapers.learners import inner_loop, options
from metapers.learners.utility import negative_log_likelihood, utilities, utility_network


def pooled(num_features: int, *, hidden: Sequence[int] = (64, 64)) -> MetaLearner:
  """Returns one utility for everyone: u(x) = w·x + MLP(x), fitted to all users' comparisons.

  The user state is empty.

  Args:
    num_features: D.
    hidden: widths of the perceptron's hidden layers.

  Reference:
    Bradley and Terry 1952; the reward model of RLHF (Ouyang et al. 2022, arXiv:2203.02155).
  """
  network = utility_network(num_features, hidden)

  def adapt(params, support, context, key):
    del params, support, context, key
    return ()

  def score(params, user_state, candidates):
    del user_state
    return utilities(network, params, candidates)

  def update(params, user_state, comparison, context, key):
    del params, comparison, context, key
    return user_state

  return meta_learner.from_adapt_score(network.init, adapt, score, update=update)


def per_user(
  num_features: int,
  *,
  hidden: Sequence[int] = (64, 64),
  inner_steps: int = 20,
  inner_learning_rate: float = 0.03,
) -> MetaLearner:
  """Returns a model for each user alone, fitted to their support from the pooled start.

  θ_u = θ - rate · Σ_steps ∇ NLL(support), the rate halved where a step would raise the NLL, with θ
  trained as `pooled`: the individual-reward-model row that every comparison of methods should show.

  Args:
    num_features: D.
    hidden: widths of the perceptron's hidden layers.
    inner_steps: gradient steps on the support.
    inner_learning_rate: their size at first, per summed nat.

  Reference:
    Dong et al. 2025, "When Personalization Meets Reality"; there called individual reward models.
  """
  options.at_least_one(inner_steps=inner_steps)
  options.positive(inner_learning_rate=inner_learning_rate)
  network = utility_network(num_features, hidden)
  start = pooled(num_features, hidden=hidden)

  def adapt(params, support, context, key):
    del context, key

    def support_loss(theta):
      return negative_log_likelihood(utilities(network, theta, support.candidates), support)

    return inner_loop.fit(support_loss, params, inner_learning_rate, num_steps=inner_steps)

  def score(params, user_state, candidates):
    del params
    return utilities(network, user_state, candidates)

  return meta_learner.from_adapt_score(network.init, adapt, score, loss=start.loss)
