"""`fit`: the one training loop. Any batch loss and any batch sampler run through it."""

import contextlib
import functools
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metapers.core.types import Metrics, Params, PyTree
from metapers.io.checkpoints import Checkpoints
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
  objective_state: PyTree = (),
  seed: int = 0,
  name: str = 'learner',
  evaluate: Evaluate | None = None,
  checkpoints: Checkpoints | None = None,
  writer: Callable[[int], MetricsWriter] | None = None,
  progress: bool = True,
) -> Result:
  """Minimises a batch loss by stochastic gradients.

  Batches are drawn on the device inside the compiled call; the state is donated to it; metrics are
  fetched one call late, so that the device never waits for the host. Step i uses the key
  `fold_in(key(seed), i)`: the same seed and devices give the same bits, interrupted or not.

  Args:
    params: to start from.
    batch_loss: `(params, objective_state, batch) -> (scalar, (objective_state, metrics))`.
    sampler: `(arrays, key) -> batch`.
    arrays: what the sampler draws from; an argument of the compiled call, not a constant of it.
    optimizer: optax transformation.
    plan: how long, and when to look.
    objective_state: to start from.
    seed: of everything random.
    name: of the learner, for messages.
    evaluate: `(params, step) -> numbers`; the highest 'score' among them is the best checkpoint.
    checkpoints: where to save and to resume from; without, nothing is kept.
    writer: makes the metrics writer, given the step that the run starts from.
    progress: show a bar.

  Raises:
    FloatingPointError: for a loss that is not finite; the last good checkpoint stays.
    SystemExit: 143 after SIGTERM, with the state saved at the next call boundary.
    ValueError: for a plan without steps.
  """
  check_plan(plan)
  mesh = devices.task_mesh()
  state = TrainState(
    jnp.asarray(0, jnp.int32), jax.random.key(seed), params, optimizer.init(params), objective_state
  )
  restored = checkpoints.restore(state) if checkpoints else None
  state = devices.replicate(state if restored is None else restored.state, mesh)
  log = Log(name, plan.num_steps, int(state.step), writer, progress=progress)
  run = compile_steps(make_step(batch_loss, sampler, optimizer))
  arrays = devices.replicate(arrays, mesh)
  best = Best()
  with contextlib.closing(log), signals.Interruption() as interruption:
    while (step := log.step) < plan.num_steps:
      stop = plan.next_stop(step)
      size = min(plan.steps_per_call, stop - step)
      state, metrics = run(state, arrays, size)
      log.push(step + size, metrics)
      if step + size == stop or interruption.asked:
        log.flush()  # raises before a diverged state is saved
        score = look(evaluate, state.params, stop, log) if step + size == stop else None
        best.offer(score, step + size, state.params)
        if checkpoints:
          checkpoints.save(step + size, state, score=score)
      if interruption.asked:
        if checkpoints:
          checkpoints.wait()
        raise SystemExit(signals.EXIT_CODE)
  return finish(state, best, checkpoints)


def check_plan(plan: Plan) -> None:
  """Refuses a plan that would not do anything."""
  if plan.num_steps < 1 or plan.steps_per_call < 1 or plan.evaluate_every < 0:
    raise ValueError(f'a plan needs at least one step, and one step a call; got {plan}')


def compile_steps(step: Step) -> Callable[[TrainState, PyTree, int], tuple[TrainState, Metrics]]:
  """Compiles `(state, arrays, num_steps) -> (state, metrics [num_steps])`; donates the state."""

  @functools.partial(jax.jit, static_argnums=2, donate_argnums=0)
  def run(state, arrays, num_steps):
    return jax.lax.scan(lambda carry, _: step(carry, arrays), state, length=num_steps)

  return run


def look(evaluate: Evaluate | None, params: Params, step: int, log: Log) -> float | None:
  """Evaluates, writes the numbers down and returns the score, if there is one.

  Raises:
    FloatingPointError: for a score that is not finite.
  """
  if evaluate is None:
    return None
  numbers = dict(evaluate(params, step))
  log.write(step, {f'evaluation/{name}': float(value) for name, value in numbers.items()})
  score = float(numbers['score'])
  if not math.isfinite(score):
    raise FloatingPointError(f'{log.name}: the score of step {step} is {score}')
  return score


class Best:
  """The best parameters so far, on the host, for runs without checkpoints."""

  def __init__(self):
    self.score, self.step, self.params = -math.inf, 0, None

  def offer(self, score: float | None, step: int, params: Params) -> None:
    """Keeps a copy of the parameters if no earlier ones scored higher."""
    if score is not None and score >= self.score:
      self.score, self.step, self.params = score, step, jax.tree.map(np.array, params)


def finish(state: TrainState, best: Best, checkpoints: Checkpoints | None) -> Result:
  """Collects the last and the best parameters."""
  step, params = int(state.step), jax.device_get(state.params)
  if checkpoints:
    found = checkpoints.best(state)
    if found is not None:
      return Result(params, jax.device_get(found.state.params), found.step)
  if best.params is not None:
    return Result(params, best.params, best.step)
  return Result(params, params, step)
