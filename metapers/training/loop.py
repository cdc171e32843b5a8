"""`fit`: the one training loop. Any batch loss and any batch sampler run through it."""

import contextlib
import functools
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from metapers.core.types import Metrics, Params, PRNGKey, PyTree
from metapers.io.checkpoints import Checkpoints, InMemory
from metapers.io.writers import MetricsWriter
from metapers.training import devices, signals
from metapers.training.log import Log
from metapers.training.step import BatchLoss, Sampler, Step, TrainState, make_step

Evaluate = Callable[[Params, int], Mapping[str, float]]


class Plan(NamedTuple):
  """How long a run is, and when it stops to look.

  num_steps: updates in all. steps_per_call: updates in one compiled call. evaluate_every: updates
  between evaluations, each followed by a checkpoint; 0 for only at the end.
  """

  num_steps: int
  steps_per_call: int = 100
  evaluate_every: int = 0

  def next_stop(self, step: int) -> int:
    """Returns the next step after `step` at which to evaluate and save."""
    every = self.evaluate_every or self.num_steps
    return min((step // every + 1) * every, self.num_steps)


class Result(NamedTuple):
  """params: after the last step. best_params: of the best evaluation (the last without any)."""

  params: Params
  best_params: Params
  best_step: int


def fit(
  params: Params,
  batch_loss: BatchLoss,
  sampler: Sampler,
  arrays: PyTree,
  optimizer: optax.GradientTransformation,
  *,
  plan: Plan,
  key: PRNGKey,
  objective_state: PyTree = (),
  name: str = 'learner',
  evaluate: Evaluate | None = None,
  checkpoints: Checkpoints | None = None,
  writer: Callable[[int], MetricsWriter] | None = None,
  progress: bool = True,
) -> Result:
  """Minimises a batch loss by stochastic gradients.

  Batches are drawn on the device inside the compiled call; the state is donated to it; metrics are
  fetched one call late, so that the device never waits for the host. Step i uses the key
  `fold_in(key, i)`: the same key and devices give the same bits, interrupted or not.

  Args:
    params: to start from.
    batch_loss: `(params, objective_state, batch) -> (scalar, (objective_state, metrics))`.
    sampler: `(arrays, key) -> batch`.
    arrays: what the sampler draws from; an argument of the compiled call, not a constant of it.
    optimizer: optax transformation.
    plan: how long, and when to look.
    key: of everything random in the steps.
    objective_state: to start from.
    name: of the learner, for messages.
    evaluate: `(params, step) -> numbers`; the highest 'score' among them is the best checkpoint.
    checkpoints: where to save and to resume from; without, nothing is kept.
    writer: makes the metrics writer, given the step that the run starts from.
    progress: show a bar.

  Raises:
    FloatingPointError: for a loss, gradient, parameters or score that are not finite; the last good
      checkpoint stays.
    SystemExit: 143 after SIGTERM, with the state saved at the next call boundary.
    ValueError: for a plan without steps, or numbers of `evaluate` without a score.
  """
  check_plan(plan)
  mesh = devices.task_mesh()
  kept = checkpoints or InMemory()
  state = initial_state(params, optimizer, objective_state, key)
  restored = kept.restore(state)
  state = devices.replicate(state if restored is None else restored.state, mesh)
  arrays = devices.replicate(arrays, mesh)
  run = compile_steps(make_step(batch_loss, sampler, optimizer), plan.steps_per_call)
  log = Log(name, plan.num_steps, int(state.step), writer, progress=progress)
  with contextlib.ExitStack() as stack:
    stack.callback(kept.wait)  # whatever ends the run, a save under way is finished
    stack.enter_context(contextlib.closing(log))
    interruption = stack.enter_context(signals.Interruption())
    while log.step < plan.num_steps:
      stop = plan.next_stop(log.step)
      size = min(plan.steps_per_call, stop - log.step)
      state, metrics = run(state, arrays, size)
      log.push(size, metrics)
      asked = interruption.asked  # read once: a signal may come between two looks
      if asked or log.step == stop:
        log.flush()  # raises before a diverged state is saved
        score = look(evaluate, state.params, log) if log.step == stop else None
        kept.save(log.step, state, score=score)
      if asked:
        raise SystemExit(signals.EXIT_CODE)
    if interruption.asked:  # since the last look: all is saved
      raise SystemExit(signals.EXIT_CODE)
    return finish(state, kept)


def initial_state(
  params: Params, optimizer: optax.GradientTransformation, objective_state: PyTree, key: PRNGKey
) -> TrainState:
  """Makes the state before the first update; also the form in which checkpoints are restored."""
  step = jnp.asarray(0, jnp.int32)
  state = TrainState(step, key, params, optimizer.init(params), objective_state)
  # A copy: the first compiled call is given the state's buffers to write to.
  return jax.tree.map(jnp.copy, state)


def check_plan(plan: Plan) -> None:
  """Refuses a plan that would not do anything."""
  if plan.num_steps < 1 or plan.steps_per_call < 1 or plan.evaluate_every < 0:
    raise ValueError(f'a plan needs at least one step, and one step a call; got {plan}')


def compile_steps(
  step: Step, most: int
) -> Callable[[TrainState, PyTree, int], tuple[TrainState, Metrics]]:
  """Compiles `(state, arrays, num_steps) -> (state, metrics [most])`; donates the state.

  The number of steps is data. A loop of constant length is compiled to other code for another
  length (one of length 1 is no loop at all), and the bits would depend on where a run was cut.

  Args:
    step: one step.
    most: the largest number of steps; the metrics of steps beyond `num_steps` are zero.
  """

  @functools.partial(jax.jit, donate_argnums=0)
  def run(state, arrays, num_steps):
    def body(i, carry):
      state, history = carry
      state, metrics = step(state, arrays)
      return state, jax.tree.map(lambda rows, row: rows.at[i].set(row), history, metrics)

    _, shapes = jax.eval_shape(step, state, arrays)
    empty = jax.tree.map(lambda x: jnp.zeros((most, *x.shape), x.dtype), shapes)
    return jax.lax.fori_loop(0, num_steps, body, (state, empty))

  return run


def look(evaluate: Evaluate | None, params: Params, log: Log) -> float | None:
  """Evaluates, writes the numbers down and returns the score, if there is one.

  Raises:
    FloatingPointError: for a score that is not finite.
    ValueError: for numbers without a score.
  """
  if evaluate is None:
    return None
  numbers = {name: float(value) for name, value in evaluate(params, log.step).items()}
  if 'score' not in numbers:
    raise ValueError(f"evaluate must return a 'score' among its numbers, got {sorted(numbers)}")
  log.write({f'evaluation/{name}': value for name, value in numbers.items()})
  if not math.isfinite(numbers['score']):
    raise FloatingPointError(
      f'{log.name}: the score of step {log.step} is {numbers["score"]}; the last checkpoint is '
      'from before'
    )
  return numbers['score']


def finish(state: TrainState, kept: Checkpoints | InMemory) -> Result:
  """Collects the last and the best parameters."""
  params = jax.device_get(state.params)
  best = kept.best(state)
  if best is None:
    return Result(params, params, int(state.step))
  return Result(params, jax.device_get(best.state.params), best.step)
