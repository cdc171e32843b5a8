"""A step of training beside the bare one, and the seconds from a name to the first step.

    python -m metapers.bench.speed.training_steps LEARNER FOLDER CLOCK

prints the seconds until the first step has ended, where compiled programs are kept in a folder: a
second time they come from there.
"""

import json
import sys
from typing import Any, NamedTuple

import jax

from metapers import learners
from metapers.bench import plan
from metapers.bench.speed.worker import CLOCKS
from metapers.core.meta_learner import MetaLearner
from metapers.core.population import Population
from metapers.core.types import Callable
from metapers.data import synthetic
from metapers.populations.reward_ensemble import reward_ensemble
from metapers.training import devices, loop, objectives, optimizers, step

NUM_STEPS = 10  # of a round
NUM_ROUNDS = 4
NUM_KNOWN = 512  # users, of learners that know theirs
OPTIONS = {'maml': {'hidden': (128, 128), 'inner_steps': 5}}  # other than the defaults


class Timed(NamedTuple):
  """Seconds of one step: whole, with users drawn anew, and of one batch that is drawn before."""

  whole: float
  bare: float


class Setup(NamedTuple):
  """What a run compiles, and what it is given."""

  run: Callable[..., Any]
  state: Any
  arrays: Any


def population_of() -> Population:
  """Returns PersonalLLM's simulated users on synthetic scores of ten reward models."""
  table = synthetic.synthetic_store(num_prompts=1000)
  return reward_ensemble(table, num_support=8, num_query=32, num_slates=1, num_users=NUM_KNOWN)


def learner_of(name: str, population: Population) -> MetaLearner:
  """Returns a learner of the package, of the sizes of a population, with its OPTIONS."""
  sizes = plan.sizes(learners.factory(name), population.spec)
  return learners.make(name, **sizes, **OPTIONS.get(name, {}))


def whole_step(learner: MetaLearner, population: Population, batch_size: int) -> Setup:
  """Returns steps as `loop.fit` compiles them."""
  sampler = step.task_sampler(population, batch_size=batch_size, shots=8)
  return setup(learner, sampler, population.arrays)


def bare_step(learner: MetaLearner, population: Population, batch_size: int) -> Setup:
  """Returns steps whose batch is always the same: nothing is drawn."""
  sampler = step.task_sampler(population, batch_size=batch_size, shots=8)
  batch = jax.jit(sampler)(population.arrays, jax.random.key(0))
  return setup(learner, lambda arrays, key: arrays, batch)


def setup(learner: MetaLearner, sampler: step.Sampler, arrays: Any) -> Setup:
  """Returns the compiled loop of a sampler, its first state, and what it draws from."""
  placement, optimizer = devices.placement(), optimizers.adamw(1e-3, 1000)
  batch_loss = step.meta_loss(learner, objectives.mean(), placement=placement)
  params = learner.init(jax.random.key(0))
  state = loop.initial_state(params, optimizer, (), jax.random.key(1), placement=placement)
  made = step.make_step(batch_loss, sampler, optimizer)
  run = loop.compile_steps(made, NUM_STEPS, state, placement)
  return Setup(run, state, placement.place(arrays, root='arrays'))


def seconds_of(given: Setup, clock: str) -> Callable[[], float]:
  """Returns a function that makes NUM_STEPS steps, and gives the seconds of one."""
  now, held = CLOCKS[clock], [given.state]

  def measured():
    start = now()
    state, metrics = given.run(held[0], {}, given.arrays, NUM_STEPS)
    jax.block_until_ready((state, metrics))
    held[0] = state
    return (now() - start) / NUM_STEPS

  return measured


def end_to_end(name: str, batch_size: int, clock: str) -> Timed:
  """Returns the least seconds of a step, whole and bare, in turns.

  Args:
    name: of a learner.
    batch_size: users in a step.
    clock: of `worker.CLOCKS`.
  """
  population = population_of()
  learner = learner_of(name, population)
  makes = (whole_step, bare_step)
  turns = [seconds_of(make(learner, population, batch_size), clock) for make in makes]
  found = [[measured() for measured in turns] for _ in range(1 + NUM_ROUNDS)][1:]  # one to compile
  return Timed(*map(min, zip(*found, strict=True)))


def first_step(name: str, folder: str, clock: str) -> float:
  """Returns the seconds from a learner's name to the end of its first step of 64 users."""
  jax.config.update('jax_compilation_cache_dir', folder)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.05)
  population, now = population_of(), CLOCKS[clock]
  start = now()
  given = whole_step(learner_of(name, population), population, 64)
  jax.block_until_ready(given.run(given.state, {}, given.arrays, 1))
  return now() - start


if __name__ == '__main__':
  print(json.dumps(first_step(*sys.argv[1:])))
