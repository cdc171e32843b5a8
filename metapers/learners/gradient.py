"""Gradient-based meta-learners: a start from which few steps on few comparisons go far.

θ_u = θ - Σ_steps rate · ∇NLL(support; θ), and the start θ (and the rates) are trained so that θ_u
predicts the query. They differ in what is adapted, what is learned and which derivatives count.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from metapers.core import choice_model, meta_learner, task
from metapers.core.meta_learner import Adapt, Loss, MetaLearner
from metapers.core.task import Candidates, Choices
from metapers.core.types import Callable, Params, PyTree
from metapers.learners import inner_loop, options, row_space
from metapers.learners.utility import embed, negative_log_likelihood, utilities, utility_network
from metapers.networks import linear_mlp
from metapers.networks.linear_mlp import Stages

SupportNLL = Callable[[jax.Array, Choices], jax.Array]  # of scores [N, K] and a support, in nats


class Model(NamedTuple):
  """What is adapted, and what is not.

  init: `(key) -> {'shared', 'adapted'}`. inputs: `(shared, candidates) -> inputs`, the part that
  adapting does not change. utility: `(adapted, inputs) -> [N, K]`.
  """

  init: Callable[..., dict[str, Params]]
  inputs: Callable[..., PyTree]
  utility: Callable[..., jax.Array]


def maml(
  num_features: int,
  *,
  hidden: Sequence[int] = (64, 64),
  inner_steps: int = 3,
  inner_learning_rate: float = 0.05,
  learn_inner_rate: bool = True,
  mean_support_loss: bool = False,
) -> MetaLearner:
  """Returns model-agnostic meta-learning, differentiated through the inner loop to second order.

  The user state is the adapted parameters θ_u.

  Args:
    num_features: D.
    hidden: widths of the utility's hidden layers.
    inner_steps: gradient steps on the support.
    inner_learning_rate: their size, per nat of the support loss; the start value if learned.
    learn_inner_rate: whether the step size is meta-learned along with θ.
    mean_support_loss: descend on the mean NLL of the support, as in the paper, so that a step size
      carries over to other numbers of comparisons.

  Reference:
    Finn, Abbeel and Levine 2017, arXiv:1703.03400. Unlike the paper, the support loss is a sum by
    default: more comparisons are more evidence.
  """
  return _maml(
    num_features,
    hidden,
    inner_steps,
    inner_learning_rate,
    learn_rate=learn_inner_rate,
    support_nll=_mean_nll if mean_support_loss else negative_log_likelihood,
  )


def fomaml(
  num_features: int,
  *,
  hidden: Sequence[int] = (64, 64),
  inner_steps: int = 3,
  inner_learning_rate: float = 0.05,
  learn_inner_rate: bool = True,
) -> MetaLearner:
  """Returns first-order MAML: as `maml`, but the inner gradients count as constants.

  Args:
    num_features: D.
    hidden: widths of the utility's hidden layers.
    inner_steps: gradient steps on the support.
    inner_learning_rate: their size, per summed nat; the start value if learned.
    learn_inner_rate: whether the step size is meta-learned along with θ.

  Reference:
    Finn, Abbeel and Levine 2017, arXiv:1703.03400, section 5.2.
  """
  return _maml(
    num_features,
    hidden,
    inner_steps,
    inner_learning_rate,
    learn_rate=learn_inner_rate,
    first_order=True,
  )


def anil(
  num_features: int,
  *,
  hidden: Sequence[int] = (64,),
  width: int = 32,
  inner_steps: int = 5,
  inner_learning_rate: float = 0.05,
  learn_inner_rate: bool = True,
) -> MetaLearner:
  """Returns ANIL: only the head v of u(x) = v·φ(x) adapts; φ(x) = W x + MLP(x) is shared.

  "Almost no inner loop". The user state is the head [H].

  Args:
    num_features: D.
    hidden: widths of φ's hidden layers.
    width: H, the width of φ.
    inner_steps: gradient steps on the support.
    inner_learning_rate: their size, per summed nat; the start value if learned.
    learn_inner_rate: whether the step size is meta-learned.

  Reference:
    Raghu et al. 2019, arXiv:1909.09157.
  """
  options.at_least_one(inner_steps=inner_steps)
  network = linear_mlp.linear_mlp(num_features, hidden, width)

  def init(key):
    key_network, key_head = jax.random.split(key)
    head = jax.random.normal(key_head, (width,), jnp.float32) / jnp.sqrt(width)
    return {'shared': network.init(key_network), 'adapted': {'head': head}}

  def inputs(shared, candidates):
    return embed(network, shared, candidates)

  model = Model(init, inputs, lambda adapted, features: features @ adapted['head'])
  adapt = _adapter(model, inner_steps, learn_rate=learn_inner_rate)
  return _learner(model, adapt, _single_rate(inner_learning_rate))


def mrm(
  num_features: int,
  *,
  hidden: Sequence[int] = (),
  rank: int = 2,
  inner_steps: int = 1,
  inner_learning_rate: float = 1.0,
  learn_inner_rate: bool = True,
) -> MetaLearner:
  """Returns Meta Reward Modeling: u(x) = softmax(a)·φ(x), and only the weights a adapt.

  φ(x) = V x (+ MLP(x)) has `rank` outputs, and a starts where all users' loss is least after a few
  steps on the mean NLL of their support. The user state is a [rank]. The objective that goes with
  it is `robust_personalization` of `metapers.training.objectives`.

  Args:
    num_features: D.
    hidden: widths of φ's hidden layers; none as published.
    rank: number of basis rewards; 2 as published.
    inner_steps: gradient steps on the support; 1 as published, 0 turns adaptation off.
    inner_learning_rate: their size, per mean nat; at .05 nobody would move visibly.
    learn_inner_rate: whether the step size is meta-learned.

  Reference:
    Cai et al. 2026, "One Adapts to Any: Meta Reward Modeling" (SIGIR). Unlike there, inner steps
    are of plain descent, whose size is learned, where a first step of Adam has one size for all.
  """
  options.at_least_one(rank=rank)
  options.not_negative(inner_steps=inner_steps)
  network = linear_mlp.linear_mlp(num_features, hidden, rank)

  def init(key):
    return {'shared': network.init(key), 'adapted': {'logits': jnp.zeros(rank, jnp.float32)}}

  def inputs(shared, candidates):
    return embed(network, shared, candidates)

  def utility(adapted, features):
    return features @ jax.nn.softmax(adapted['logits'])

  model = Model(init, inputs, utility)
  adapt = _adapter(model, inner_steps, learn_rate=learn_inner_rate, support_nll=_mean_nll)
  return _learner(model, adapt, _single_rate(inner_learning_rate))


def meta_sgd(
  num_features: int,
  *,
  hidden: Sequence[int] = (64, 64),
  inner_steps: int = 3,
  inner_learning_rate: float = 0.05,
) -> MetaLearner:
  """Returns Meta-SGD: as `maml`, with a learned step size for every parameter.

  Args:
    num_features: D.
    hidden: widths of the utility's hidden layers.
    inner_steps: gradient steps on the support.
    inner_learning_rate: start value of every step size, per summed nat.

  Reference:
    Li et al. 2017, arXiv:1707.09835. Unlike the paper, rates stay positive: their log is learned.
  """
  options.at_least_one(inner_steps=inner_steps)
  options.positive(inner_learning_rate=inner_learning_rate)
  model, _ = _whole(num_features, hidden)

  def init_rates(adapted):
    return jax.tree.map(lambda x: jnp.full_like(x, jnp.log(inner_learning_rate)), adapted)

  return _learner(model, _adapter(model, inner_steps, learn_rate=True), init_rates)


def reptile(
  num_features: int,
  *,
  hidden: Sequence[int] = (64, 64),
  inner_steps: int = 5,
  inner_learning_rate: float = 0.05,
) -> MetaLearner:
  """Returns Reptile: the start moves towards where descent on a user's comparisons ends.

  The loss is ½‖θ - θ_u‖² with θ_u constant, so that its gradient is Reptile's θ - θ_u.

  Args:
    num_features: D.
    hidden: widths of the utility's hidden layers.
    inner_steps: gradient steps on a user's comparisons.
    inner_learning_rate: their size, per summed nat.

  Reference:
    Nichol, Achiam and Schulman 2018, arXiv:1803.02999.
  """
  model, stages = _whole(num_features, hidden)
  adapt = _adapt_by(_descent(stages, inner_steps, learn_rate=False, first_order=True), stages)

  def loss(params, episode, key):
    everything = task.concat(episode.support, episode.query)
    goal = jax.lax.stop_gradient(adapt(params, everything, episode.context, key))
    moves = jax.tree.map(jnp.subtract, params['adapted'], goal)
    adapted = adapt(params, episode.support, episode.context, key)
    scores = model.utility(adapted, episode.query.candidates)
    log_p = choice_model.log_probs(scores, episode.query.candidates.mask)
    metrics = jax.lax.stop_gradient(meta_learner.query_metrics(log_p, episode.query))
    return 0.5 * optax.tree.norm(moves, squared=True), metrics

  return _learner(model, adapt, _single_rate(inner_learning_rate), loss=loss)


def _maml(
  num_features: int,
  hidden: Sequence[int],
  inner_steps: int,
  inner_learning_rate: float,
  *,
  learn_rate: bool,
  first_order: bool = False,
  support_nll: SupportNLL = negative_log_likelihood,
) -> MetaLearner:
  model, stages = _whole(num_features, hidden)
  descend = _descent(
    stages, inner_steps, learn_rate=learn_rate, first_order=first_order, support_nll=support_nll
  )

  def loss(params, episode, key):  # of the adapted network, which is never formed
    del key
    adapted, query = descend(params, episode.support), episode.query.candidates
    scores = row_space.outputs(stages, adapted, _rows(query)).reshape(query.mask.shape)
    log_p = choice_model.log_probs(scores, query.mask)
    metrics = meta_learner.query_metrics(log_p, episode.query)
    return metrics['nll'], metrics

  adapt = _adapt_by(descend, stages)
  return _learner(model, adapt, _single_rate(inner_learning_rate), loss=loss)


def _whole(num_features: int, hidden: Sequence[int]) -> tuple[Model, Stages]:
  network = utility_network(num_features, hidden)

  def init(key):
    return {'shared': {}, 'adapted': network.init(key)}

  def inputs(shared, candidates):
    del shared
    return candidates

  model = Model(init, inputs, functools.partial(utilities, network))
  return model, linear_mlp.stages(num_features, hidden, 1)


def _rows(candidates: Candidates) -> jax.Array:
  x = candidates.features
  wide = jnp.promote_types(x.dtype, jnp.float32)  # `row_space` multiplies rows: bytes would wrap
  return x.reshape(-1, x.shape[-1]).astype(wide)  # [N * K, D]


def _single_rate(inner_learning_rate: float) -> Callable[[Params], Params]:
  options.positive(inner_learning_rate=inner_learning_rate)
  return lambda adapted: jnp.log(jnp.float32(inner_learning_rate))


def _rates(params: Params, *, learned: bool) -> Params:
  log_rates = params['log_rates']
  return jax.tree.map(jnp.exp, log_rates if learned else jax.lax.stop_gradient(log_rates))


def _descent(
  stages: Stages,
  num_steps: int,
  *,
  learn_rate: bool,
  first_order: bool,
  support_nll: SupportNLL = negative_log_likelihood,
) -> Callable[[Params, Choices], row_space.Adapted]:
  options.at_least_one(inner_steps=num_steps)

  def descend(params, support):
    def support_loss(outputs):
      return support_nll(outputs.reshape(support.candidates.mask.shape), support)

    return row_space.descend(
      support_loss,
      stages,
      params['adapted'],
      _rows(support.candidates),
      _rates(params, learned=learn_rate),
      num_steps=num_steps,
      first_order=first_order,
    )

  return descend


def _adapt_by(descend: Callable[[Params, Choices], row_space.Adapted], stages: Stages) -> Adapt:
  def adapt(params, support, context, key):
    del context, key
    return row_space.parameters(stages, descend(params, support))

  return adapt


def _adapter(
  model: Model,
  num_steps: int,
  *,
  learn_rate: bool,
  support_nll: SupportNLL = negative_log_likelihood,
) -> Adapt:
  def adapt(params, support, context, key):
    del context, key
    inputs = model.inputs(params['shared'], support.candidates)

    def support_loss(adapted):
      return support_nll(model.utility(adapted, inputs), support)

    rates = _rates(params, learned=learn_rate)
    return inner_loop.descend(support_loss, params['adapted'], rates, num_steps=num_steps)

  return adapt


def _mean_nll(scores: jax.Array, support: Choices) -> jax.Array:
  return choice_model.nll(choice_model.log_probs(scores, support.candidates.mask), support)


def _learner(
  model: Model, adapt: Adapt, init_rates: Callable[[Params], Params], *, loss: Loss | None = None
) -> MetaLearner:
  def init(key):
    params = model.init(key)
    return params | {'log_rates': init_rates(params['adapted'])}

  def score(params, user_state, candidates):
    return model.utility(user_state, model.inputs(params['shared'], candidates))

  return meta_learner.from_adapt_score(init, adapt, score, loss=loss)
