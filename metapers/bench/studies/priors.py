"""Is the prior wrong? Simulation-based calibration of trained runs, as a part of the page."""

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
import pandas as pd

from metapers.analysis import simulation_calibration, study_frame
from metapers.analysis.simulation_calibration import Bands, Draws
from metapers.analysis.study_frame import Whose
from metapers.bench.runs import Run
from metapers.bench.studies import part
from metapers.bench.studies.part import Part, Shown
from metapers.core.meta_learner import MetaLearner
from metapers.core.population import Population
from metapers.core.task import Task, Truth
from metapers.core.types import Params
from metapers.evaluation import adaptation
from metapers.evaluation.bayes import exact_learner, posterior
from metapers.io import panels
from metapers.io.panels import Line
from metapers.io.plots import Figure

TITLE = 'Is the prior wrong? Calibration on simulated users'
EXACT = 'exact posterior'
OF_WEIGHTS = ('empirical_bayes', 'particle')  # learners whose latent is the simulator's
SHOTS = (0, 4, 16)
NUM_PARTICLES = 256  # of the exact posterior of one user
BANK_FOR_EACH = 64  # draws of the prior for each user, so that few have many in common
CHUNK_SIZE = 4  # users at once, each with all samples of the posterior
TEXT = (
  'Users are drawn from the simulator, and answer. If a posterior is right, the truth is one more '
  'draw from it, and its rank among 99 draws is uniform. The figure shows the share of users whose '
  'rank is below each place, minus that place; the grey band holds uniform ranks, all places '
  'together, in 95 % of samples.',
  'k = 0 is a learner that never looked at the user: it passes where its prior is right. The check '
  'sees a wrong prior or a wrong update, not that nothing was learned.',
)


class Checked(NamedTuple):
  """A learner to check. reads_weights: whether its latent is the simulator's weights."""

  name: str
  learner: MetaLearner
  params: Params
  reads_weights: bool


def part_of(
  name: str,
  run: Run,
  learner_name: str,
  *,
  num_users: int = simulation_calibration.NUM_USERS,
  with_exact: bool = True,
  seed: int = 0,
) -> Part:
  """Returns the part of the page of one run.

  Args:
    name: of the run.
    run: trained.
    learner_name: of the learner, such as 'empirical_bayes'.
    num_users: T.
    with_exact: whether the exact posterior stands beside, where there is one.
    seed: of all that is drawn.

  Raises:
    ValueError: for real people, whose truth nobody knows.
  """
  population = run.population
  simulation = population.simulation
  if simulation is None:
    raise ValueError(
      f'{population.source} are no simulated users: nobody knows the truth that a rank is of; give '
      'a run that was trained on simulated users'
    )
  is_linear = simulation.has_score_features and learner_name in OF_WEIGHTS
  checked = [Checked(learner_name, run.learner, run.params, is_linear)]
  if with_exact:
    checked += exact(population, num_users, seed)
  tasks, truth = users(population, num_users, seed)
  shots = tuple(count for count in SHOTS if count <= population.spec.num_support)
  found = {
    one.name: simulation_calibration.draw(
      one.learner, one.params, tasks, truth, shots=shots,
      reward_models=simulation.reward_models if one.reads_weights else (), seed=seed,
      chunk_size=1 if one.name == EXACT else CHUNK_SIZE,  # which pays for a user's moves alone
    )
    for one in checked
  }  # fmt: skip
  num_tests = max(map(len, found.values())) * len(shots)
  known = simulation_calibration.bands(num_users, num_tests=num_tests)
  frames = [
    simulation_calibration.study(each, shots, Whose('priors', f'{name}: {own}'), known=known)
    for own, each in found.items()
  ]
  frame = study_frame.joined(frames)
  return Part(
    f'{TITLE}: {name}',
    frame,
    findings=[sentence(each, name) for each in frames],
    text=TEXT,
    figures={
      f'priors_{name}': Shown(
        functools.partial(figure, found, shots, known), 'Grey: simultaneous 95 % band.'
      )
    },
    tables=[table_of(frame)],
  )


def exact(population: Population, num_users: int, seed: int) -> list[Checked]:
  """Returns the exact posterior as a learner; nothing where what learners see does not give it.

  Every user starts from draws of the prior that are independent of each other and, by the size of
  the bank, nearly of those of other users: a rank among others would not be uniform.
  """
  simulation = population.simulation
  assert simulation is not None
  try:
    learner = exact_learner.of_simulation(
      simulation, num_particles=NUM_PARTICLES, num_samples=simulation_calibration.NUM_DRAWS
    )
  except ValueError:
    return []
  bank = posterior.draw_bank(
    simulation.user_models,
    len(simulation.reward_models),
    seed,
    size=max(posterior.BANK_SIZE, BANK_FOR_EACH * num_users),
    is_turned=False,
  )
  return [Checked(EXACT, learner, bank[0], reads_weights=True)]


def users(population: Population, num_users: int, seed: int) -> tuple[Task, Truth]:
  """Returns held-out users: as many different ones, or drawn again where there are fewer.

  Raises:
    ValueError: for a population without truth.
  """
  if population.spec.num_held_out.get('test', 0) >= num_users:
    tasks, truth = adaptation.episodes(population, split='test', num_users=num_users)
  else:
    keys = jax.random.split(jax.random.key(seed), num_users)
    tasks, truth = jax.jit(jax.vmap(lambda key: population.sample_episode(
      population.arrays, key, 'test'
    )))(keys)  # fmt: skip
  if truth is None:
    raise ValueError(f'{population.source}: nobody knows these users; give simulated ones')
  return tasks, truth


def figure(
  found: Mapping[str, dict[str, Draws]],
  shots: Sequence[int],
  known: Bands,
  *,
  is_narrow: bool = False,
) -> Figure:
  """Returns the distribution of ranks over the uniform one: a panel for each learner."""
  shown = []
  for name, quantities in found.items():
    series = {}
    for quantity, drawn in quantities.items():
      if quantity.startswith(simulation_calibration.WEIGHT.format('')):
        continue  # one by one in the table
      last = simulation_calibration.ranks(drawn)[-1]
      share = simulation_calibration.below(last) / len(last)
      series[quantity] = Line(known.places, share - known.places, np.full(len(share), np.nan))
    band = (known.places, known.low - known.places, known.high - known.places)
    lines = panels.lines(series, 'rank / 100', 'share below, over uniform', band=band)
    shown.append(panels.Panel(lines, f'{name}, k = {shots[-1]}', 2.8))
  return panels.figure(
    shown,
    title='Ranks of the truth among draws of the posterior',
    described='see the table',
    is_narrow=is_narrow,
  )


def table_of(frame: pd.DataFrame):
  """Returns the table of p values and coverages."""
  names = frame['population'].str.rpartition(': ')[2] + ', ' + frame['group']
  return part.table(
    frame.assign(row=names),
    caption='uniformity of ranks, and coverage of central intervals',
    down='row',
    across='statistic',
    digits=3,
    note='p: how often uniform ranks are as far from uniform somewhere; ± is half a 95 % interval',
  )


def sentence(frame: pd.DataFrame, name: str) -> str:
  """Returns what was found of one learner, in words."""
  own = frame[frame['statistic'] == 'p of uniform ranks']
  learner = str(own['population'].iloc[0]).rpartition(': ')[2]
  least = 0.05 / len(own)  # for all of them together
  wrong = own[own['value'] < least]
  if wrong.empty:
    return (
      f'{name}: no quantity of {len(own)} shows that the posterior of {learner} is wrong (5 % for '
      'all together).'
    )
  return (
    f'{name}: the posterior of {learner} is wrong in {len(wrong)} of {len(own)} quantities (5 % '
    f'for all together): {"; ".join(wrong["group"].head(4))}.'
  )
