"""The claims of the contract about gradients, learning, adaptation and storage; see `contract`."""

import tempfile

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core import programs, task
from metapers.core.types import Params
from metapers.io.checkpoints import Checkpoints
from metapers.testing.subject import (
  Subject,
  all_finite,
  first,
  mean_loss,
  quick_jit,
  same_bits,
)


def gradient_reaches_parameters(it: Subject) -> None:
  """8: the loss's gradient is finite, and non-zero somewhere in every top-level parameter."""
  if not it.excused.trained:
    return
  known = it.tasks._replace(user=np.zeros_like(it.tasks.user))  # for learners with a table
  _, gradient = it.value_and_grad(it.start, known)
  assert all_finite(gradient), 'the gradient is not finite'
  for name, part in gradient.items():
    leaves = jax.tree.leaves(part)
    moved = any(np.any(np.asarray(leaf) != 0) for leaf in leaves)
    expected = bool(leaves) and name not in it.excused.constant
    assert moved == expected, f'gradient of {name!r} is {"non-" if moved else ""}zero'


def finite_differences_agree(it: Subject) -> None:
  """9: the directional derivative of the loss equals central differences in float64."""
  if not (it.excused.trained and it.excused.exact_gradient):
    return
  with jax.enable_x64(True):
    one = jax.tree.map(lambda x: x[:1], it.tasks)
    params, tasks = jax.tree.map(as_float64, jax.device_get((it.trained, one)))
    rng = np.random.default_rng(8)
    direction = jax.tree.map(lambda x: rng.normal(size=x.shape), params)

    def along(t):
      moved = jax.tree.map(lambda x, d: x + t * d, params, direction)
      return mean_loss(it.learner, moved, tasks, jax.random.split(jax.random.key(9), 1))

    step = 1e-5
    value_and_slope = quick_jit(jax.value_and_grad(along))  # one program for all three
    derivative = float(value_and_slope(0.0)[1])
    ahead, behind = (float(value_and_slope(t)[0]) for t in (step, -step))
  difference = (ahead - behind) / (2 * step)
  message = f'derivative {derivative:.8g}, finite difference {difference:.8g}'
  assert np.isclose(derivative, difference, rtol=1e-4, atol=1e-6), message


def as_float64(x: np.ndarray) -> jax.Array:
  """Returns floats widened, and the rest as it is."""
  return jnp.asarray(x.astype(np.float64) if np.issubdtype(x.dtype, np.floating) else x)


def mean_query(it: Subject, params: Params, shots: int) -> tuple[float, float]:
  """Returns mean NLL (nats) and accuracy on the held-out tasks after `shots` comparisons."""
  tasks = it.tasks._replace(support=task.with_shots(it.tasks.support, shots))
  log_p = np.asarray(it.predictions(params, tasks))
  choice = np.asarray(it.tasks.query.choice)[..., None]
  chosen = np.take_along_axis(log_p, choice, -1)
  return float(-chosen.mean()), float((log_p.argmax(-1, keepdims=True) == choice).mean())


def training_learns(it: Subject) -> None:
  """10: a short training lowers NLL, and with it (or after `prepare` alone) 8 shots beat 0."""
  (after, eight), (_, zero) = (mean_query(it, it.trained, shots) for shots in (8, 0))
  if it.excused.trained:
    before, _ = mean_query(it, it.start, 8)
    assert after < before, f'training raised the 8-shot NLL from {before:.3f} to {after:.3f}'
  if it.excused.adapts:
    assert eight > zero + 0.05, f'8 shots give accuracy {eight:.3f}, 0 shots {zero:.3f}'


def same_key_gives_same_bits(it: Subject) -> None:
  """11: everything random comes from the key: two traces are one program, two runs one result."""
  episode, key = first(it.tasks), jax.random.key(1)
  given = (it.trained, episode.support, episode.context, key)
  for name, function, arguments in (
    ('init', it.learner.init, (key,)), ('adapt', it.learner.adapt, given),
  ):  # fmt: skip
    first_trace, second_trace = (programs.program(function, *arguments) for _ in range(2))
    assert first_trace == second_trace, f'{name} draws numbers that do not come from its key'
  once, again = (it.predictions(it.trained, it.tasks) for _ in range(2))
  assert same_bits(once, again), 'the same key gives other predictions'


def checkpoint_keeps_every_bit(it: Subject) -> None:
  """12: parameters and a user state come back from a checkpoint as they were, to the bit."""
  saved = (it.trained, it.alone()[0])
  with tempfile.TemporaryDirectory() as workdir:
    checkpoints = Checkpoints(workdir, {})
    checkpoints.save(1, saved)
    found = checkpoints.restore(saved)
    checkpoints.close()
  assert found is not None, 'nothing came back'
  assert same_bits(found.state, saved), 'what comes back from a checkpoint is not what was saved'


def flipped_labels_move_predictions_the_other_way(it: Subject) -> None:
  """14: with every support label flipped, predictions move the other way."""
  if not it.excused.adapts:
    return
  support = it.tasks.support
  supports = (support, support._replace(choice=1 - support.choice), task.with_shots(support, 0))
  plain, flipped, neutral = (
    np.exp(it.predictions(it.trained, it.tasks._replace(support=given))) for given in supports
  )
  agreement = float(np.sum((plain - neutral) * (flipped - neutral)))
  assert agreement < 0, f'flipping the support moves predictions the same way ({agreement:.3g})'
