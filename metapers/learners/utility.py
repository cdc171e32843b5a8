"""What the learners share: a utility network over candidates, and the likelihood of a support."""

from collections.abc import Sequence

from metapers.core import choice_model
from metapers.core.task import Candidates, Choices
from metapers.core.types import Array, Float, Params, Scalar
from metapers.networks.linear_mlp import linear_mlp
from metapers.networks.network import Network


def utility_network(num_features: int, hidden: Sequence[int]) -> Network:
  """Returns the network u(x) = w·x + MLP(x), `[..., D] -> [..., 1]`, in logits."""
  return linear_mlp(num_features, hidden, 1)


def utilities(network: Network, params: Params, candidates: Candidates) -> Float[Array, 'N K']:
  """Returns the utility [N, K] of each candidate."""
  return embed(network, params, candidates)[..., 0]


def embed(network: Network, params: Params, candidates: Candidates) -> Float[Array, 'N K H']:
  """Returns the outputs [N, K, H] of a network for each candidate."""
  return network.apply(params, candidates.features)


def negative_log_likelihood(scores: Float[Array, 'N K'], choices: Choices) -> Scalar:
  """Returns -Σ_n weight_n log P(choice_n), in nats, over the real comparisons."""
  return choice_model.total_nll(choice_model.log_probs(scores, choices.candidates.mask), choices)
