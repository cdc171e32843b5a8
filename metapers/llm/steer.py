"""A frozen model steered by preference prompts, whose weights are those that explain choices.

    forms = Forms(tokens, mask)                 # a prompt as it is, and after B preference prompts
    ratios = log_ratios(model, params, forms, response, response_mask)             # φ [*batch, B]
    made = features('without_length', ratios, lengths)                # of known users' responses
    candidates = Candidates(made(ratios, lengths), mask)              # what any learner is given
    weights = made.weights(slopes(learner, params, user_state, candidates))               # w [B]
    answers = generate(params, inputs_of(model, params, forms), key, shares=shares(weights, 1.0))

With φ_b(x, y) = log π(y | x, s_b) - log π(y | x) and utilities w·φ the best policy at a price of
β a nat is π(y | x) exp(w·φ / β), up to a constant. Token by token this is the softmax of

    h + (1/β) Σ_b w_b (h_b - h),

h the logits after x and h_b those after s_b and x: no training, and B + 1 passes of one model. The
product over tokens is the policy above only as far as what may still follow weighs the same after
every token.

Letters: B preference prompts, M = B + 1 forms of a prompt, L its tokens, R those of a response.

Reference:
  Kim et al. 2025 (Drift), arXiv:2502.14289. Unlike there, weights come from the posterior of any
  learner, length is taken out of φ before, and prompts that do not move the model's own answers are
  left out.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core.meta_learner import MetaLearner
from metapers.core.population import HostOrDevice
from metapers.core.task import Candidates
from metapers.core.types import Array, Bool, Float, Int, Params, UserState
from metapers.llm.decoder import Decoder
from metapers.llm.prompting import Inputs

CHUNK_SIZE = 128  # responses whose forms are read at once
LEAST_MOVE = 0.5  # of `moves`: other prompts do not enter


class Forms(NamedTuple):
  """A prompt in M forms, padded on the left: the first without a preference prompt."""

  tokens: Int[HostOrDevice, '*batch M L']
  mask: Bool[HostOrDevice, '*batch M L']


class Reading(NamedTuple):
  """What forms say of a response, in nats, summed over its tokens.

  base: log π(y | x). steered: log of the steered policy. divergence: Σ_t KL(steered ‖ base) of the
  next token, along the response: of responses drawn from the steered policy its mean is the KL.
  """

  base: Float[Array, '*batch']
  steered: Float[Array, '*batch']
  divergence: Float[Array, '*batch']


def shares(
  weights: Float[HostOrDevice, '*batch B'], strength: float
) -> Float[HostOrDevice, '*batch M']:
  """Returns (1 - Σ_b w_b/β, w_1/β, ...): forms' shares of the steered logits, 1/β strength."""
  scaled = strength * weights
  return jnp.concatenate([1 - scaled.sum(-1, keepdims=True), scaled], -1)


def inputs_of(model: Decoder, params: Params, forms: Forms) -> Inputs:
  """Returns forms as what a generator reads."""
  return Inputs(model.embed(params, jnp.asarray(forms.tokens)), jnp.asarray(forms.mask))


def log_ratios(
  model: Decoder,
  params: Params,
  forms: Forms,
  response: Int[Array, '*batch R'],
  response_mask: Bool[Array, '*batch R'],
) -> Float[Array, '*batch B']:
  """Returns φ_b = log π(y | x, s_b) - log π(y | x) of each response, in nats.

  Args:
    model: decoder.
    params: of it.
    forms: of the prompt of each response.
    response: tokens, padded on the right; what ends it is among them.
    response_mask: which of them count.
  """

  def one(given):
    forms, response, mask = given
    hidden = _hidden(model, params, forms, response, mask)
    repeated = (jnp.broadcast_to(x[None], (len(hidden), *x.shape)) for x in (response, mask))
    log_p = model.response_log_probs(params, hidden, *repeated).sum(-1)  # [M]
    return log_p[1:] - log_p[:1]

  return _of_each(one, (forms, response, response_mask), response.ndim - 1)


def read(
  model: Decoder,
  params: Params,
  forms: Forms,
  response: Int[Array, '*batch R'],
  response_mask: Bool[Array, '*batch R'],
  shares: Float[Array, '*batch M'],
) -> Reading:
  """Returns what the base and the steered policy say of responses.

  Args:
    model: decoder.
    params: of it.
    forms: of the prompt of each response.
    response: tokens, padded on the right.
    response_mask: which of them count.
    shares: of the forms, see `shares`.
  """

  def one(given):
    forms, response, mask, shares = given
    hidden = _hidden(model, params, forms, response, mask)
    before = hidden[:, -len(response) - 1 : -1]
    log_p = jax.nn.log_softmax(model.logits(params, before))  # [M, R, V]
    steered = jax.nn.log_softmax(jnp.einsum('m,mrv->rv', shares, log_p))
    divergence = jnp.sum(jnp.exp(steered) * (steered - log_p[0]), -1)

    def of_tokens(log_p):
      return jnp.take_along_axis(log_p, response[:, None], -1)[:, 0]

    parts = Reading(of_tokens(log_p[0]), of_tokens(steered), divergence)
    return jax.tree.map(lambda x: jnp.where(mask, x, 0).sum(), parts)

  return _of_each(one, (forms, response, response_mask, shares), response.ndim - 1)


def _hidden(model: Decoder, params: Params, forms: Forms, response: Array, mask: Array) -> Array:
  tokens = jnp.broadcast_to(response[None], (len(forms.mask), len(response)))
  embeddings = model.embed(params, jnp.concatenate([forms.tokens, tokens], -1))
  is_real = jnp.concatenate([forms.mask, jnp.broadcast_to(mask[None], tokens.shape)], -1)
  return model.hidden(params, embeddings, is_real)


def _of_each(function, given, num_axes: int):
  """Returns a function of one response, mapped over the leading axes, in chunks."""
  shape = given[1].shape[:num_axes]
  flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[num_axes:]), given)
  found = jax.lax.map(function, flat, batch_size=CHUNK_SIZE)
  return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), found)


KINDS = ('without_length', 'per_token', 'raw')


class Features(NamedTuple):
  """How φ becomes features: (φ_b - intercept_b - slope_b tokens) / scale_b, per token if so asked.

  Without, what a user says of length would go to whatever prompt makes answers long.

  length: a typical number of tokens, by which weights per token count less for a whole response.
  """

  intercept: Float[Array, 'B']
  slope: Float[Array, 'B']
  scale: Float[Array, 'B']
  length: Float[Array, '']
  is_per_token: bool

  def __call__(
    self, ratios: Float[HostOrDevice, '*batch B'], lengths: Float[HostOrDevice, '*batch']
  ) -> Float[HostOrDevice, '*batch B']:
    """Returns the features of responses.

    Args:
      ratios: φ.
      lengths: tokens of each response.
    """
    slope, intercept, scale = (
      x.reshape((1,) * lengths.ndim + (-1,)) for x in (self.slope, self.intercept, self.scale)
    )
    found = (ratios - intercept - slope * lengths[..., None]) / scale
    return found / lengths[..., None] if self.is_per_token else found

  def weights(self, slopes: Float[HostOrDevice, '*batch B']) -> Float[HostOrDevice, '*batch B']:
    """Returns the weights of φ itself from those of its features."""
    scale = self.scale * self.length if self.is_per_token else self.scale
    return slopes / scale.reshape((1,) * (slopes.ndim - 1) + (-1,))


def check_kind(kind: str) -> None:
  """Raises ValueError for features that there are not.

  Raises:
    ValueError: naming those that there are.
  """
  if kind not in KINDS:
    raise ValueError(f'features must be one of {", ".join(KINDS)}, got {kind!r}')


def features(
  kind: str, ratios: Float[HostOrDevice, '*batch B'], lengths: Float[HostOrDevice, '*batch']
):
  """Returns how φ becomes features of standard deviation 1 over the responses given.

  Args:
    kind: 'without_length' takes out its least squares on the number of tokens, 'per_token' divides
      by it, 'raw' leaves φ as it is.
    ratios: φ of responses that known users compared.
    lengths: tokens of each.

  Raises:
    ValueError: for another kind.
  """
  check_kind(kind)
  flat, own = ratios.reshape(-1, ratios.shape[-1]), lengths.reshape(-1)
  slope = intercept = jnp.zeros(flat.shape[1], flat.dtype)
  if kind == 'without_length':
    away = own - own.mean()
    spread = jnp.maximum(jnp.sum(away**2), 1e-6)
    slope = (away[:, None] * (flat - flat.mean(0, keepdims=True))).sum(0) / spread
    intercept = flat.mean(0) - slope * own.mean()
  made = Features(intercept, slope, jnp.ones_like(slope), own.mean(), kind == 'per_token')
  return made._replace(scale=jnp.maximum(made(flat, own).std(0), 1e-6))


def slopes(
  learner: MetaLearner, params: Params, user_state: UserState, candidates: Candidates
) -> Float[Array, 'D']:
  """Returns the mean gradient of a user's utility over candidates: the weights of their features.

  Of a learner whose utilities are linear these are its weights, whatever the candidates.

  Args:
    learner: that was given φ as features.
    params: of it.
    user_state: of the user.
    candidates: where the utility is linearised, such as those that the user compared.
  """

  def total(features):
    scores = learner.score(params, user_state, candidates._replace(features=features))
    return jnp.where(candidates.mask, scores, 0).sum()

  found = jnp.where(candidates.mask[..., None], jax.grad(total)(candidates.features), 0)
  return found.sum((0, 1)) / jnp.maximum(candidates.mask.sum(dtype=jnp.int32), 1)


def moves(
  prompted: Float[np.ndarray, 'B n'], base: Float[np.ndarray, 'B m']
) -> Float[np.ndarray, 'B']:
  """Returns by how many standard deviations of the base each prompt moves what it asks for.

  Args:
    prompted: how much of what prompt b asks for is in the model's own answers under it.
    base: the same in its own answers without any.
  """
  away = prompted.mean(-1) - base.mean(-1)
  spread = base.std(-1)
  never = np.where(away > 0, np.inf, 0.0)  # the base's answers are all alike
  return np.where(spread > 0, away / np.where(spread > 0, spread, 1), never)
