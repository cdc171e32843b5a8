"""The claims of the contract about gradients, learning, adaptation and storage; see `contract`."""

import tempfile

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core import choice_model, task
from metapers.core.types import Params
from metapers.io.checkpoints import Checkpoints
from metapers.testing.subject import Subject, all_finite, first


def gradient_reaches_parameters(it: Subject) -> None:
  """8: the loss's gradient is finite, and non-zero somewhere in every top-level parameter."""
  seen = first(it.tasks)._replace(user=jnp.asarray(0))  # a known user, for learners with a table
  _, gradient = it.value_and_grad(it.start, seen)
  assert all_finite(gradient), 'the gradient is not finite'
  for name, part in gradient.items():
    leaves = jax.tree.leaves(part)
    moved = any(bool(jnp.any(leaf != 0)) for leaf in leaves)
    expected = bool(leaves) and name not in it.excused.constant
    assert moved == expected, f'gradient of {name!r} is {"non-" if moved else ""}zero'


def finite_differences_agree(it: Subject) -> None:
  """9: the directional derivative of the loss equals central differences in float64."""
  if not it.excused.exact_gradient:
    return
  with jax.enable_x64(True):
    params, seen = jax.tree.map(as_float64, (it.trained, first(it.tasks)))
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(8), len(leaves))
    draws = [jax.random.normal(key, x.shape, x.dtype) for key, x in zip(keys, leaves, strict=True)]
    direction = jax.tree.unflatten(structure, draws)

    @jax.jit
    def along(t):
      moved = jax.tree.map(lambda x, d: x + t * d, params, direction)
      return it.learner.loss(moved, seen, jax.random.key(9))[0]

    step = 1e-5
    derivative = float(jax.grad(along)(0.0))
    difference = float(along(step) - along(-step)) / (2 * step)
  message = f'derivative {derivative:.8g}, finite difference {difference:.8g}'
  assert np.isclose(derivative, difference, rtol=1e-4, atol=1e-6), message


def as_float64(x: jax.Array) -> jax.Array:
  """Widens floats, and leaves the rest."""
  return jnp.asarray(x, jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x


def mean_query(it: Subject, params: Params, shots: int) -> tuple[float, float]:
  """Returns mean NLL (nats) and accuracy on the held-out tasks after `shots` comparisons."""
  tasks = it.tasks._replace(support=task.with_shots(it.tasks.support, shots))
  log_p = jax.vmap(it.predictions, (None, 0))(params, tasks)
  nll = jax.vmap(choice_model.nll)(log_p, tasks.query)
  return float(nll.mean()), float(jax.vmap(choice_model.accuracy)(log_p, tasks.query).mean())


def training_learns(it: Subject) -> None:
  """10: a short training lowers NLL, and with it 8 shots beat 0."""
  before, after = mean_query(it, it.start, 8)[0], mean_query(it, it.trained, 8)[0]
  assert after < before, f'training raised the 8-shot NLL from {before:.3f} to {after:.3f}'
  if it.excused.adapts:
    zero, eight = mean_query(it, it.trained, 0)[1], mean_query(it, it.trained, 8)[1]
    assert eight > zero + 0.05, f'8 shots give accuracy {eight:.3f}, 0 shots {zero:.3f}'


def same_key_gives_same_bits(it: Subject) -> None:
  """11: everything random comes from the key."""
  again = it.learner.init(jax.random.key(0))
  for a, b in zip(jax.tree.leaves(it.start), jax.tree.leaves(again), strict=True):
    assert jnp.array_equal(a, b), 'init gives other parameters for the same key'
  seen = first(it.tasks)
  states = [
    it.learner.adapt(it.trained, seen.support, seen.context, jax.random.key(0)) for _ in range(2)
  ]
  for a, b in zip(*map(jax.tree.leaves, states), strict=True):
    assert jnp.array_equal(a, b), 'adapt gives another user state for the same key'


def checkpoint_keeps_predictions(it: Subject) -> None:
  """12: parameters and a user state that come back from a checkpoint predict the same bits."""
  seen = first(it.tasks)
  user_state = it.learner.adapt(it.trained, seen.support, seen.context, jax.random.key(0))
  saved = (it.trained, user_state)
  with tempfile.TemporaryDirectory() as workdir:
    checkpoints = Checkpoints(workdir, {})
    checkpoints.save(1, saved)
    found = checkpoints.restore(saved)
    checkpoints.close()
  assert found is not None, 'nothing came back'
  predict = jax.jit(it.learner.predict)
  before, after = (predict(*each, seen.query.candidates) for each in (saved, found.state))
  assert jnp.array_equal(before, after), 'what comes back from a checkpoint predicts otherwise'


def flipped_labels_move_predictions_the_other_way(it: Subject) -> None:
  """14: with every support label flipped, predictions move the other way."""
  if not it.excused.adapts:
    return
  support = it.tasks.support
  supports = (support, support._replace(choice=1 - support.choice), task.with_shots(support, 0))
  plain, flipped, neutral = (
    jnp.exp(jax.vmap(it.predictions, (None, 0))(it.trained, it.tasks._replace(support=given)))
    for given in supports
  )
  agreement = float(jnp.sum((plain - neutral) * (flipped - neutral)))
  assert agreement < 0, f'flipping the support moves predictions the same way ({agreement:.3g})'
