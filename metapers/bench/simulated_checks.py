"""What `experiments.collect --check` measures of simulated people whose exact answer is known:
when asking may stop, whether preferences changed, and when not to answer.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pandas as pd

from metapers.bench import abstaining, drift, stopping, stored_populations
from metapers.bench.stopping import Sure
from metapers.core import task
from metapers.core.meta_learner import MetaLearner
from metapers.core.population import Population, Simulation
from metapers.core.task import Task
from metapers.evaluation import adaptation
from metapers.evaluation.bayes import exact_learner
from metapers.io import leaves
from metapers.learners import dirichlet_mixture
from metapers.learners.particle_bank import Bank
from metapers.serving import exports, pretrained

MODEL = 'personal_llm_scores'
NOISELESS, UNEVEN, NOISY = 'α .05, no noise', 'α 1, no noise', 'α .05, 75 % of answers right'
PEOPLE: dict[str, dict[str, Any]] = {
  NOISELESS: {'concentration': 0.05},
  UNEVEN: {'concentration': 1.0},
  NOISY: {'concentration': 0.05, 'label_accuracy': 0.75},
}
EXCLUDED = 'beaver_7b'  # of whom nobody is seen who cares for it
NUM_QUESTIONS = 32
NUM_CALIBRATION = 1000
NUM_PARTICLES = 512


class Sort(NamedTuple):
  """People to calibrate with and others, `bayes` what is exact of the former."""

  people: Task
  shifted: Mapping[str, Task]
  bayes: Sure


def stops(num_people: int) -> Iterator[str]:
  """Yields what stopping rules of the shipped model cost and give, beside the exact posterior's."""
  for name, options in PEOPLE.items():
    people = stored_populations.reward_ensemble(num_support=64, num_held_out=num_people, **options)
    table = stopping.table(
      {'shipped': shipped(), 'bayes': exact(people, NUM_QUESTIONS)},
      people,
      num_people=num_people,
      num_questions=NUM_QUESTIONS,
      key=jax.random.key(1),
    )
    yield f'\n{num_people} people, {name}\n{shown(table)}'


def drifts(num_people: int) -> Iterator[str]:
  """Yields what the shipped model makes of changes, and of noisy choices the exact posterior."""
  kwargs = pretrained.read(MODEL).kwargs
  sizes = (kwargs[name] for name in ('num_outside', 'num_particles', 'outside_prior'))
  heads = dirichlet_mixture.heads_of(shipped().params['bank'], kwargs['num_features'])
  bank = Bank(heads, dirichlet_mixture.grouped(*sizes))
  for name, options in PEOPLE.items():
    people = stored_populations.reward_ensemble(
      num_support=64, support_prompts='held_out', num_held_out=num_people, **options
    )
    rows, (users,) = {'shipped': drift.of_bank(bank)}, simulation_of(people).user_models
    if users.temperature:
      rows['bayes'] = drift.of_users(users, people.spec.num_features)
    table = drift.table(rows, people, num_people=num_people, key=jax.random.key(1))
    yield f'\n{num_people} people who may change, {name}\n{shown(table)}'


def abstains(num_people: int) -> Iterator[str]:
  """Yields what rules of abstention give of people like those of calibration, and of others.

  Args:
    num_people: of each sort; NUM_CALIBRATION of them calibrate, or are left out.

  Raises:
    ValueError: where nobody is left.
  """
  if num_people <= NUM_CALIBRATION:
    raise ValueError(
      f'{NUM_CALIBRATION} people calibrate, and others show what it gives: ask for more of them '
      f'than that, got {num_people}'
    )
  for name, sort in sorts(num_people).items():
    table = abstaining.table(
      {'shipped': shipped(), 'bayes': sort.bayes},
      sort.people,
      sort.shifted,
      num_calibration=NUM_CALIBRATION,
      key=jax.random.key(1),
    )
    yield f'\ncalibrated on {NUM_CALIBRATION} people, {name}\n{shown(table)}'


def sorts(num_people: int) -> dict[str, Sort]:
  """Returns noiseless people with noisy ones as others, noisy ones, and people none of whom cares
  for one reward model with others for whom it is most.
  """
  make = stored_populations.reward_ensemble
  options = {'num_slates': 0, 'num_held_out': num_people}
  noiseless, noisy = (make(**options, **PEOPLE[name]) for name in (NOISELESS, NOISY))
  partial = make(**options, **PEOPLE[NOISELESS], excluded_model=EXCLUDED)
  others = {
    NOISY: later(episodes(noisy, 'test')),
    f'half or more of {EXCLUDED}': later(episodes(partial, 'test')),
  }
  (of_noise, unseen), most = others.items(), abstaining.SHOTS[-1]
  return {
    NOISELESS: Sort(episodes(noiseless, 'test'), dict([of_noise]), exact(noiseless, most)),
    NOISY: Sort(episodes(noisy, 'test'), {}, exact(noisy, most)),
    f'nothing of {EXCLUDED}': Sort(
      episodes(partial, 'validation'), dict([unseen]), exact_of_seen(partial, most)
    ),
  }


def episodes(population: Population, split: str) -> Task:
  """Returns those of all held-out people of a split."""
  num_users = population.spec.num_held_out[split]
  return adaptation.episodes(population, split=split, num_users=num_users)[0]


def later(tasks: Task) -> Task:
  """Returns the people who do not calibrate."""
  return task.take(tasks, jnp.arange(NUM_CALIBRATION, tasks.user.shape[0]))


def shipped() -> Sure:
  """Returns the model that comes with the package."""
  export = pretrained.read(MODEL)
  learner = exports.learner_of(export, None)
  shapes = jax.eval_shape(learner.init, jax.random.key(0))
  return Sure(learner, leaves.rebuild(export.params, shapes))


def exact(people: Population, capacity: int) -> Sure:
  """Returns the exact posterior under the people's own prior and noise."""
  return alone(
    exact_learner.of_simulation(
      simulation_of(people), num_particles=NUM_PARTICLES, capacity=capacity
    )
  )


def exact_of_seen(people: Population, capacity: int) -> Sure:
  """Returns the exact posterior under the prior of those who care nothing for what is excluded."""
  known = simulation_of(people)
  learner = exact_learner.exact_learner(
    len(known.reward_models) - 1,
    known.user_models,
    num_particles=NUM_PARTICLES,
    capacity=capacity,
  )
  return alone(abstaining.blind(learner, known.reward_models.index(known.excluded_model)))


def alone(learner: MetaLearner) -> Sure:
  """Returns an exact learner, which is fastest with one user at a time."""
  return Sure(learner, learner.init(jax.random.key(0)), chunk_size=1)


def simulation_of(people: Population) -> Simulation:
  """Returns what is known of simulated people."""
  assert people.simulation is not None
  return people.simulation


def shown(table: pd.DataFrame) -> str:
  """Returns a table as text."""
  return table.to_string(index=False, float_format='{:.4f}'.format)
