"""Optimizers by name: factories `(learning_rate, num_steps, **options)` of transformations."""

import math

import jax
import jax.numpy as jnp
import optax

from metapers.core.types import Callable

OptimizerOf = Callable[[float, int], optax.GradientTransformation]


def adamw(
  learning_rate: float,
  num_steps: int,
  *,
  weight_decay: float = 0.0,
  clip_norm: float = 1.0,
  warmup_share: float = 0.05,
) -> optax.GradientTransformation:
  """Returns AdamW with linear warm-up, cosine decay to 0, and clipping by the global norm.

  Args:
    learning_rate: at the end of the warm-up.
    num_steps: of the run, at the end of which the rate is 0. A run that is extended goes on at the
      rates of the longer one, from a start at those of the shorter: it is neither of the two.
    weight_decay: per unit of the rate, of arrays that are learned: not of those that have had no
      gradient, such as a rate that is fixed or a bank that `prepare` makes.
    clip_norm: largest norm of a gradient; infinity leaves gradients as they are.
    warmup_share: of the steps.

  Raises:
    ValueError: for impossible values.

  Reference:
    Loshchilov and Hutter 2019, arXiv:1711.05101.
  """
  _check_run(learning_rate, num_steps)
  _check('weight_decay', weight_decay, 0 <= weight_decay < math.inf, 'at least 0')
  _check('clip_norm', clip_norm, clip_norm > 0, 'above 0')
  _check('warmup_share', warmup_share, 0 <= warmup_share < 1, 'at least 0 and below 1')
  schedule = optax.warmup_cosine_decay_schedule(
    init_value=0.0 if warmup_share and num_steps > 1 else learning_rate,
    peak_value=learning_rate,
    warmup_steps=max(1, int(num_steps * warmup_share)),
    decay_steps=max(2, num_steps),
  )
  return optax.chain(
    optax.clip_by_global_norm(clip_norm),
    optax.scale_by_adam(),
    decay_of_learned(weight_decay) if weight_decay else optax.identity(),
    optax.scale_by_learning_rate(schedule),
  )


def decay_of_learned(weight_decay: float) -> optax.GradientTransformation:
  """Returns AdamW's decay, which leaves arrays alone to which Adam's step is 0 in all entries.

  A step that is 0 everywhere is one of an array that has had no gradient: its moments are 0.
  """

  def of_array(step, x):
    return jnp.where(jnp.any(step != 0), step + weight_decay * x, step)

  return optax.stateless(lambda steps, params: jax.tree.map(of_array, steps, params))


def adam(learning_rate: float, num_steps: int) -> optax.GradientTransformation:
  """Returns Adam at a constant rate, whatever the number of steps.

  Raises:
    ValueError: for impossible values.

  Reference:
    Kingma and Ba 2015, arXiv:1412.6980.
  """
  _check_run(learning_rate, num_steps)
  return optax.adam(learning_rate)


def sgd(
  learning_rate: float, num_steps: int, *, momentum: float = 0.0
) -> optax.GradientTransformation:
  """Returns stochastic gradient descent at a constant rate, whatever the number of steps.

  Raises:
    ValueError: for impossible values.
  """
  _check_run(learning_rate, num_steps)
  _check('momentum', momentum, 0 <= momentum < 1, 'at least 0 and below 1')
  return optax.sgd(learning_rate, momentum or None)


OPTIMIZERS = {'adamw': adamw, 'adam': adam, 'sgd': sgd}


def _check_run(learning_rate: float, num_steps: int) -> None:
  _check('learning_rate', learning_rate, 0 <= learning_rate < math.inf, 'at least 0 and finite')
  _check('num_steps', num_steps, num_steps >= 0, 'at least 0')


def _check(name: str, value: float | int, is_possible: bool, expected: str) -> None:
  if not is_possible:
    raise ValueError(f'{name} must be {expected}, got {value}')
