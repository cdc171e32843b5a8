"""The learners that are timed, written in PyTorch from their definitions: the loss of one user.

A candidate that was chosen stands first, so that what a user says of two is the gap of their
utilities, and nothing is gathered or masked. Names of parameters are those of the library.
"""

import functools

import numpy as np
import torch

from metapers.bench.speed.workload import Case, Data
from metapers.core.types import Callable

Tensors = dict[str, torch.Tensor]
UserLoss = Callable[[Tensors, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

gelu = functools.partial(torch.nn.functional.gelu, approximate='tanh')


def tensors(data: Data) -> tuple[Tensors, torch.Tensor, torch.Tensor]:
  """Returns parameters, support and query [T, N, 2, D], of which the chosen one is the first."""

  def ordered(x, choice):
    is_second = torch.from_numpy(choice.astype(bool))[..., None, None]
    x = torch.from_numpy(x)
    return torch.where(is_second, x.flip(2), x).contiguous()

  params = {name: torch.from_numpy(value.copy()) for name, value in data.params.items()}
  return (
    params,
    ordered(data.support, data.support_choice),
    ordered(data.query, data.query_choice),
  )


def gradient_of(params: Tensors) -> dict[str, np.ndarray]:
  """Returns what was left in the parameters' `.grad`; zeros where nothing was."""
  nothing = {name: torch.zeros_like(value) for name, value in params.items()}
  return {
    name: (nothing[name] if value.grad is None else value.grad).numpy()
    for name, value in params.items()
  }


def user_loss(case: Case) -> UserLoss:
  """Returns `(params, support, query, user) -> loss` of a case, for `vmap` over users."""
  return LOSSES[case.row](case)


def loss_of_gaps(gaps: torch.Tensor) -> torch.Tensor:
  """Returns -log P of choices [N], of u(chosen) - u(other)."""
  return torch.nn.functional.softplus(-gaps)


def gaps_of(utility: torch.Tensor) -> torch.Tensor:
  """Returns u(chosen) - u(other) [N] of utilities [N, 2]."""
  return utility[..., 0] - utility[..., 1]


def mlp(p: Tensors, name: str, x: torch.Tensor) -> torch.Tensor:
  """Returns dense layers with GELU between them."""
  size = sum(key.startswith(f'{name}.layers.') and key.endswith('.kernel') for key in p)
  for layer in range(size):
    x = gelu(x) if layer else x
    x = torch.addmm(p[f'{name}.layers.{layer}.bias'], x, p[f'{name}.layers.{layer}.kernel'])
  return x


def linear_mlp(p: Tensors, name: str, x: torch.Tensor) -> torch.Tensor:
  """Returns W x + MLP(x) of x [..., D]."""
  rows = x.reshape(-1, x.shape[-1])
  y = rows @ p[f'{name}.linear.kernel']
  if f'{name}.mlp.layers.0.kernel' in p:
    y = y + mlp(p, f'{name}.mlp', rows)
  return y.reshape(*x.shape[:-1], y.shape[-1])


def maml(case: Case) -> UserLoss:
  """Second-order MAML: steps on the summed loss of the support, mean loss of the query."""

  def support_loss(adapted, x):
    return loss_of_gaps(gaps_of(linear_mlp(adapted, 'adapted', x)[..., 0])).sum()

  def loss(params, support, query, user):
    del user
    rate = params['log_rates'].exp()
    adapted = {name: value for name, value in params.items() if name != 'log_rates'}
    for _ in range(case.inner_steps):
      slopes = torch.func.grad(support_loss)(adapted, support)
      adapted = {name: value - rate * slopes[name] for name, value in adapted.items()}
    return loss_of_gaps(gaps_of(linear_mlp(adapted, 'adapted', query)[..., 0])).mean()

  return loss


def cnp(case: Case) -> UserLoss:
  """The conditional neural process."""
  del case

  def loss(params, support, query, user):
    del user
    embedded = linear_mlp(params, 'encoder.embedding', support)
    codes = mlp(params, 'encoder.encoder', embedded[:, 0] - embedded[:, 1])
    count = torch.tensor(float(len(codes)))
    code = torch.cat([codes.sum(0) / torch.sqrt(1 + count), torch.log1p(count)[None]])
    z = mlp(params, 'encoder.readout', code[None])[0]
    features = linear_mlp(params, 'decoder.embedding', query)
    joined = torch.cat([features, z.expand(features.shape)], -1)
    rows = joined.reshape(-1, joined.shape[-1])
    corrected = mlp(params, 'decoder.correction', rows).reshape(features.shape[:-1])
    return loss_of_gaps(gaps_of(features @ z + corrected)).mean()

  return loss


def attention(p: Tensors, name: str, x: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
  """Returns attention of four heads, [Q, H]."""

  def projected(part, rows):
    y = torch.addmm(p[f'{name}.{part}.bias'], rows, p[f'{name}.{part}.kernel'])
    return y.reshape(len(rows), 4, -1).transpose(0, 1)

  query, key, value = projected('query', x), projected('key', given), projected('value', given)
  shares = torch.softmax(query @ key.transpose(1, 2) / query.shape[-1] ** 0.5, -1)
  gathered = (shares @ value).transpose(0, 1).reshape(x.shape)
  return torch.addmm(p[f'{name}.out.bias'], gathered, p[f'{name}.out.kernel'])


def norm(p: Tensors, name: str, x: torch.Tensor) -> torch.Tensor:
  """Returns layer normalisation."""
  return torch.nn.functional.layer_norm(
    x, x.shape[-1:], p[f'{name}.scale'], p[f'{name}.bias'], 1e-6
  )


def block(p: Tensors, name: str, x: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
  """Returns x after attention to `given`, and a perceptron."""
  read = attention(
    p, f'{name}.attention', norm(p, f'{name}.norm_queries', x), norm(p, f'{name}.norm_given', given)
  )
  x = x + read
  return x + mlp(p, f'{name}.mlp', norm(p, f'{name}.norm', x))


def transformer_np(case: Case) -> UserLoss:
  """The transformer neural process of two blocks, eight slots and one block of candidates."""
  del case

  def loss(params, support, query, user):
    del user
    embedded = linear_mlp(params, 'encoder.embedding', support)
    tokens = mlp(params, 'encoder.encoder.code', embedded[:, 0] - embedded[:, 1])
    x = torch.cat([params['encoder.encoder.neutral'], tokens])
    for layer in range(2):
      x = block(params, f'encoder.encoder.blocks.{layer}', x, x)
    slots = block(params, 'encoder.encoder.read', params['encoder.encoder.slots'], x)
    slots = norm(params, 'encoder.encoder.norm', slots)
    features = linear_mlp(params, 'decoder.embedding', query)
    rows = features.reshape(-1, features.shape[-1])
    read = norm(
      params, 'decoder.attend.norm', block(params, 'decoder.attend.blocks.0', rows, slots)
    )
    corrected = mlp(params, 'decoder.correction', torch.cat([read, rows], -1))[:, 0]
    utility = ((read * rows).sum(-1) + corrected).reshape(features.shape[:-1])
    return loss_of_gaps(gaps_of(utility)).mean()

  return loss


def gaussian_head(case: Case) -> UserLoss:
  """The Bayesian linear head: mode by Newton with line search, Laplace, and the probit formula.

  As of the library's, the steps to the mode are not differentiated, but for the last.
  """
  del case
  sizes = (1.0, 0.5, 0.25, 0.0625, 0.0)

  def curvature(v, gaps, contrasts):
    p = torch.sigmoid(gaps + contrasts @ v)
    rows = torch.sqrt(torch.clamp(p * (1 - p), min=1e-12))[:, None] * contrasts
    return p, torch.linalg.inv(torch.eye(len(v)) + rows.T @ rows)

  def direction(v, gaps, contrasts):
    p, inverse = curvature(v, gaps, contrasts)
    return -inverse @ (v - contrasts.T @ (1 - p))

  def energies(proposals, gaps, contrasts):
    losses = loss_of_gaps(gaps[None] + proposals @ contrasts.T).sum(-1)
    return losses + 0.5 * (proposals**2).sum(-1)

  def mode(gaps, contrasts):
    v = torch.zeros(contrasts.shape[-1])
    for _ in range(8):
      proposals = v[None] + torch.tensor(sizes)[:, None] * direction(v, gaps, contrasts)[None]
      best = energies(proposals, gaps, contrasts).argmin()
      v = (torch.nn.functional.one_hot(best, len(sizes)).to(v.dtype)[:, None] * proposals).sum(0)
    return v

  def parts(params, x):
    offset = linear_mlp(params, 'mean', x)[..., 0]
    factors = linear_mlp(params, 'factors', x)
    return gaps_of(offset), factors[:, 0] - factors[:, 1]

  def loss(params, support, query, user):
    del user
    gaps, contrasts = parts(params, support)
    v = mode(gaps.detach(), contrasts.detach()).detach()
    mean = v + direction(v, gaps, contrasts)
    _, covariance = curvature(mean, gaps, contrasts)
    gaps, contrasts = parts(params, query)
    variance = torch.einsum('nh,hg,ng->n', contrasts, covariance, contrasts)
    shrink = torch.rsqrt(1 + torch.pi / 8 * variance)
    return loss_of_gaps((gaps + contrasts @ mean) * shrink).mean()

  return loss


def low_rank(case: Case) -> UserLoss:
  """LoRe's objective: σ((x - x') · V softmax(ω) / 100), the mean over all comparisons of a user."""
  del case

  def loss(params, support, query, user):
    weights = torch.softmax(params['table'][user], -1)
    contrasts = torch.cat([support[:, 0] - support[:, 1], query[:, 0] - query[:, 1]])
    return loss_of_gaps(contrasts @ params['basis.linear.kernel'] @ weights / 100).mean()

  return loss


LOSSES: dict[str, Callable[[Case], UserLoss]] = {
  'maml': maml,
  'cnp': cnp,
  'transformer_np': transformer_np,
  'gaussian_head': gaussian_head,
  'low_rank': low_rank,
}
