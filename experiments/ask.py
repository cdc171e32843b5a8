"""Asks unseen users: which rule picks the questions that tell most of them, and by how much.

    python -m experiments.ask --config=experiments/configs/asking.py --workdir=DIR

Every learner, and `bayes`, asks by every rule of `evaluation.acquisition`. Which rule is best is
read off validation users; what it saves is measured on test users. Finished parts are skipped on a
restart. Writes results.csv, asking.png and report.html into the workdir.
"""

import functools
import pathlib
from typing import NamedTuple

import jax
import numpy as np
from absl import flags
from ml_collections import config_flags

from experiments import asking_report, build, commands, references, runs, settings, trained
from experiments.asking_report import Found
from experiments.build import Config
from experiments.configs import base
from experiments.settings import Setting
from metapers.core.meta_learner import MetaLearner
from metapers.core.population import Population
from metapers.core.types import Params
from metapers.evaluation import asking, estimates
from metapers.evaluation.acquisition import RULES
from metapers.evaluation.asking import Update
from metapers.evaluation.bayes import exact_learner
from metapers.evaluation.predictions import Predictions
from metapers.io import workdirs

CONFIG = config_flags.DEFINE_config_file('config', None, 'What to ask whom.', lock_config=True)
WORKDIR = flags.DEFINE_string('workdir', None, 'Where runs, predictions and results go.')


class Asker(NamedTuple):
  """A learner that is ready to ask.

  name: for people. trained: name with how long it was trained, for files. update, chunk_size: see
  `asking.ask`.
  """

  name: str
  trained: str
  learner: MetaLearner
  params: Params
  update: Update | None
  chunk_size: int


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  ask(commands.required(CONFIG), pathlib.Path(commands.required(WORKDIR)))


def ask(config: Config, workdir: pathlib.Path) -> None:
  """Trains what is missing, asks everyone and tells which rule asks best.

  Raises:
    ValueError: for a config of something else, or users whom `bayes` cannot ask.
  """
  if 'asking' not in config or 'benchmark' not in config:
    raise ValueError('this config asks nobody; give one such as experiments/configs/asking.py')
  population = build.population(config)
  workdirs.claim(workdir, runs.identity(config, population))
  askers = [bayes(config, population)]
  askers += [learned(config, name, workdir) for name in config.benchmark.learners]
  validation, test = (setting(config, split) for split in ('validation', 'test'))
  chosen = {asker.name: best_rule(found(config, workdir, validation, asker)) for asker in askers}
  judged = {asker.name: found(config, workdir, test, asker) for asker in askers}
  asking_report.write(config, workdir, test, judged, chosen)


def learned(config: Config, name: str, workdir: pathlib.Path) -> Asker:
  """Trains a learner of the table, and gives it more draws to ask with."""
  single = base.single(config, name, seed=config.seed)
  with single.unlocked():
    del single.asking  # training is the same, whatever is asked afterwards
  commands.say(f'{name}: {single.training.num_steps} steps')
  run = runs.train(single, workdir / 'runs' / f'{name}-{single.seed}')
  base.update('learner', single.learner.kwargs, {'num_samples': config.asking.num_samples[name]})
  learner = build.learner(single, run.population.spec)
  trained_name = f'{name}-{single.seed}-{single.training.num_steps}'
  return Asker(name, trained_name, learner, run.params, None, config.evaluation.chunk_size)


def bayes(config: Config, population: Population) -> Asker:
  """Makes the exact posterior, to ask the same way.

  Raises:
    ValueError: for users of whom the exact posterior is not a function of what learners see.
  """
  record, spec = population.record, population.spec
  is_told = record['track'] == 'scores' and not record['excluded_model']
  if not is_told or 'extreme' in str(record['pair_rule']):
    raise ValueError(
      'bayes asks on the scores track, about pairs that do not depend on the taste, of users with '
      f'any weights; got track={record["track"]}, pair_rule={record["pair_rule"]}, '
      f'excluded_model={record["excluded_model"]!r}'
    )
  made = exact_learner.exact_learner(
    spec.num_features,
    references.conditions(population),
    num_candidates=spec.num_candidates,
    num_particles=config.evaluation.num_particles,
    num_samples=config.asking.num_samples.bayes,
  )
  return Asker('bayes', 'bayes', made.learner, made.learner.init(jax.random.key(0)), made.update, 1)


def setting(config: Config, split: str) -> Setting:
  """Draws the users of a split, with a pool of questions each."""
  part = config.copy_and_resolve_references()
  if split == 'validation':
    part.evaluation.num_users = part.evaluation.num_validation_users
  sizes = {'num_support': config.asking.pool_size, 'num_query': config.asking.num_queries}
  made = settings.make(part, {**sizes, 'split': split})
  return made._replace(
    name=split,
    shots=tuple(range(config.asking.num_questions + 1)),
    labels={**made.labels, 'protocol': config.protocol},
  )


def found(config: Config, workdir: pathlib.Path, users: Setting, asker: Asker) -> Found:
  """Asks all users of a setting by every rule, and judges: rule -> estimates."""

  def predictions(users: Setting, rule: str) -> Predictions:
    commands.say(f'{asker.name} asks {users.name} users by {rule}')
    answers = asking.ask(
      asker.learner,
      asker.params,
      users.tasks,
      users.truth,
      rule=rule,
      num_questions=config.asking.num_questions,
      update=asker.update,
      chunk_size=asker.chunk_size,
      key=jax.random.key(1),
    )
    return jax.device_get(answers.predictions)

  judged = {}
  for rule in RULES:
    make = functools.partial(predictions, rule=rule)
    made = trained.cell(workdir, users, f'{asker.trained}-{rule}', make)
    judged[rule] = estimates.estimate(users.evaluated, made)
  return judged


def best_rule(judged: Found) -> str:
  """Returns the rule, other than random, of the highest mean accuracy over all questions."""
  means = {rule: np.mean(made['accuracy'][0]) for rule, made in judged.items() if rule != 'random'}
  return max(means, key=means.__getitem__)


if __name__ == '__main__':
  commands.run(main)
