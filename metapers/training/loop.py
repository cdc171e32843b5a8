"""`fit`: the one training loop. Any batch loss and any batch sampler run through it."""

import contextlib
import math
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from metapers.core.types import Metrics, Params, PRNGKey, PyTree
from metapers.io.checkpoints import Checkpoints, InMemory
from metapers.io.writers import MetricsWriter
from metapers.training import devices, signals
from metapers.training.devices import Placement
from metapers.training.log import Log
from metapers.training.step import (
  BatchLoss,
  Sampler,
  Step,
  TrainState,
  join_frozen,
  make_step,
  split_frozen,
)

Evaluate = Callable[[Params, int], Mapping[str, float]]
WriterFrom = Callable[[int | None], MetricsWriter]


class Schedule(NamedTuple):
  """How long a run is, and when it stops to evaluate.

  num_steps: updates in all; 0 evaluates and saves the parameters that it starts from.
  steps_per_call: updates in one compiled call. evaluate_every: updates between evaluations, each
  followed by a checkpoint; 0 for only at the end.
  """

  num_steps: int
  steps_per_call: int = 100
  evaluate_every: int = 0

  def next_stop(self, step: int) -> int:
    """Returns the next step after `step` at which to evaluate and save."""
    every = self.evaluate_every or self.num_steps
    return min((step // every + 1) * every, self.num_steps)


class Result(NamedTuple):
  """Parameters, frozen ones among them.

  params: after the last step. best_params: of the best evaluation (the last without any).
  """

  params: Params
  best_params: Params
  best_step: int


class Begun(NamedTuple):
  """What a run begins with: its state, what it leaves as it is, and the hash that stores it.

  resumed_step: of the checkpoint that it goes on from; None for a run that starts.
  """

  state: TrainState
  frozen: Params
  frozen_hash: str
  resumed_step: int | None


def fit(
  params: Params,
  batch_loss: BatchLoss,
  sampler: Sampler,
  arrays: PyTree,
  optimizer: optax.GradientTransformation,
  *,
  schedule: Schedule,
  key: PRNGKey,
  objective_state: PyTree = (),
  frozen: Collection[str] = (),
  start: Callable[[Params], Params] | None = None,
  placement: Placement | None = None,
  name: str = 'learner',
  evaluate: Evaluate | None = None,
  checkpoints: Checkpoints | None = None,
  writer: WriterFrom | None = None,
  progress: bool = True,
) -> Result:
  """Returns parameters that minimise a batch loss by stochastic gradients.

  Batches are drawn on the device inside the compiled call; the state is donated to it; metrics are
  fetched one call late, so that the device never waits for the host. Step i uses the key
  `fold_in(key, i)`: the same key and devices give the same bits, interrupted or not.

  Args:
    params: to start from.
    batch_loss: `(params, objective_state, batch, arrays) -> (scalar, (objective_state, metrics))`.
    sampler: `(arrays, key) -> batch`.
    arrays: what the sampler draws from; an argument of the compiled call, not a constant of it.
    optimizer: optax transformation.
    schedule: how long, and when to evaluate.
    key: of everything random in the steps.
    objective_state: to start from.
    frozen: names of top-level parameters to leave as they are: no gradient or moment is kept of
      them, no step copies them, and a workdir stores them once.
    start: `(params) -> params`, called once before step 0; a resumed run has its result.
    placement: over devices; by default users over all of them, in one program. Its rule is given
      parameters ('params.base.w'; their moments follow) and arrays ('arrays.rewards'). A batch loss
      that divides users has the same one.
    name: of the learner, for messages.
    evaluate: `(params, step) -> numbers`; the highest 'score' among them is the best checkpoint.
    checkpoints: where to save and to resume from; without, nothing is kept.
    writer: makes the metrics writer, given the step that the run resumes from, None at the start.
    progress: show a bar, and say what is compiled.

  Raises:
    FloatingPointError: for a loss, gradient, parameters or score that are not finite; the last good
      checkpoint stays.
    SystemExit, KeyboardInterrupt: 143 after SIGTERM, or Ctrl-C, with the state saved at the next
      call boundary.
    ValueError: for an impossible schedule, unknown frozen names, a sharding that does not fit, or
      numbers of `evaluate` without a score.
  """
  check_schedule(schedule)
  placement = placement or devices.placement()
  kept = checkpoints or InMemory()
  begun = begin(
    placement.place(params, 'params'),
    kept,
    lambda trained: initial_state(trained, optimizer, objective_state, key, placement=placement),
    frozen=frozen,
    start=lambda params: placement.place(start(params), 'params') if start else params,
  )
  state, arrays = begun.state, placement.place(arrays, 'arrays')
  step = make_step(batch_loss, sampler, optimizer)
  run = compile_steps(step, schedule.steps_per_call, state, placement)
  log = Log(name, schedule.num_steps, begun.resumed_step, writer, progress=progress)

  def save(is_stop):
    log.flush()  # raises before a diverged state is saved
    everything = join_frozen(state.params, begun.frozen)
    score = score_of(evaluate, everything, log) if is_stop else None
    kept.save(log.step, state, score=score, frozen=begun.frozen_hash)

  with contextlib.ExitStack() as stack:
    stack.callback(kept.wait)  # whatever ends the run, a save under way is finished
    stack.enter_context(contextlib.closing(log))
    interruption = stack.enter_context(signals.Interruption(log.step))
    if schedule.num_steps == 0 and begun.resumed_step is None:
      save(is_stop=True)
    while log.step < schedule.num_steps:
      stop = schedule.next_stop(log.step)
      size = min(schedule.steps_per_call, stop - log.step)
      with log.compiling('training'):
        state, metrics = run(state, begun.frozen, arrays, size)
      log.push(size, metrics)
      asked = interruption.asked(log.step)  # once: a signal may come between two looks
      if asked or log.step == stop:
        save(is_stop=log.step == stop)
      if asked:
        signals.end(asked)
    if asked := interruption.asked(log.step):  # since the last look: all is saved
      signals.end(asked)
    return finish(state, begun.frozen, kept)


def begin(
  params: Params,
  kept: Checkpoints | InMemory,
  state_of: Callable[[Params], TrainState],
  *,
  frozen: Collection[str],
  start: Callable[[Params], Params],
) -> Begun:
  """Returns what was saved last, or what a run starts with where nothing was.

  Args:
    params: to start from.
    kept: where to look.
    state_of: gives the first state of the parameters to train.
    frozen: names of the others.
    start: is called on all of them where nothing was saved.
  """
  trained, fixed = split_frozen(params, frozen)
  restored = kept.restore(state_of(trained))
  if restored is not None:
    fixed = kept.restore_frozen(restored.frozen, fixed)
    return Begun(restored.state, fixed, restored.frozen, restored.step)
  trained, fixed = split_frozen(start(params), frozen)
  return Begun(state_of(trained), fixed, kept.store_frozen(fixed), None)


def initial_state(
  params: Params,
  optimizer: optax.GradientTransformation,
  objective_state: PyTree,
  key: PRNGKey,
  *,
  placement: Placement | None = None,
) -> TrainState:
  """Returns the state before the first update; also the form in which checkpoints are restored.

  Args:
    params: without frozen ones, see `step.split_frozen`.
    optimizer: as in `fit`, like all others.
    objective_state: to start from.
    key: of everything random in the steps.
    placement: of parameters and their moments.
  """
  placement = placement or devices.placement()
  params = placement.place(params, 'params')
  moments = devices.place_like_params(optimizer.init(params), params, placement.mesh)
  step, key, objective_state = devices.place(
    (jnp.asarray(0, jnp.int32), key, objective_state), placement.mesh
  )
  # A copy: the first compiled call is given the state's buffers to write to.
  return jax.tree.map(jnp.copy, TrainState(step, key, params, moments, objective_state))


def check_schedule(schedule: Schedule) -> None:
  """Refuses an impossible schedule."""
  if schedule.num_steps < 0 or schedule.steps_per_call < 1 or schedule.evaluate_every < 0:
    raise ValueError(
      'a schedule needs num_steps and evaluate_every of at least 0, and steps_per_call of at least '
      f'1; got {schedule}'
    )


def compile_steps(
  step: Step, most: int, state: TrainState, placement: Placement
) -> Callable[[TrainState, Params, PyTree, int], tuple[TrainState, Metrics]]:
  """Returns compiled `(state, frozen, arrays, num_steps) -> (state, metrics [most])`.

  The state is donated, and comes back laid out over the devices as it was. The number of steps is
  data. A loop of constant length is compiled to other code for another length (one of length 1 is
  no loop at all), and the bits would depend on where a run was cut.

  Args:
    step: one step.
    most: the largest number of steps; the metrics of steps beyond `num_steps` are zero.
    state: of which the layout is taken.
    placement: over devices.
  """
  step = jax.jit(step, inline=True)  # traced once for its shapes and in the loop

  def run(state, frozen, arrays, num_steps):
    def body(i, carry):
      state, history = carry
      state, metrics = step(state, frozen, arrays)
      return state, jax.tree.map(lambda rows, row: rows.at[i].set(row), history, metrics)

    _, shapes = jax.eval_shape(step, state, frozen, arrays)
    empty = jax.tree.map(lambda x: jnp.zeros((most, *x.shape), x.dtype), shapes)
    return jax.lax.fori_loop(0, num_steps, body, (state, empty))

  return placement.compile(run, state)


def score_of(evaluate: Evaluate | None, params: Params, log: Log) -> float | None:
  """Returns the score of an evaluation, if there is one, with its numbers written.

  Raises:
    FloatingPointError: for a score that is not finite.
    ValueError: for numbers without a score.
  """
  if evaluate is None:
    return None
  with log.compiling('evaluation'):
    numbers = {name: float(value) for name, value in evaluate(params, log.step).items()}
  if 'score' not in numbers:
    raise ValueError(f"evaluate must return a 'score' among its numbers, got {sorted(numbers)}")
  log.write({f'evaluation/{name}': value for name, value in numbers.items()})
  if not math.isfinite(numbers['score']):
    raise FloatingPointError(
      f'{log.name}: the score of step {log.step} is {numbers["score"]}; the last checkpoint is '
      'of an earlier step'
    )
  return numbers['score']


def finish(state: TrainState, frozen: Params, kept: Checkpoints | InMemory) -> Result:
  """Returns the last and the best parameters, on the host."""
  params = devices.fetch(join_frozen(state.params, frozen))
  best = kept.best(state)
  if best is None:
    return Result(params, params, int(state.step))
  return Result(params, devices.fetch(join_frozen(best.state.params, frozen)), best.step)
