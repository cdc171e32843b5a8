"""Answers that are no choice: what "about the same", "both bad" and "much better" are worth.

Source: ours; the choice models of Davidson 1970 (ties) and Agresti 1992 (adjacent categories).

Every learner is trained and evaluated where people must choose, and where they may say more; the
query is a forced choice in all. A row named `_dropped` is the same learner without the ties it was
given, and one named `_halves` reads each as two comparisons of half a weight.

Expected: after 8 answers, of which a third are ties, gaussian_prior is right on 83.4 % of forced
  choices, 1.9 points more than with ties dropped, 1.6 than with halves; NLL .362, .398 and .438.
Time: not measured whole; `:quick` 2 minutes of CPU.
Command: python -m experiments.benchmark --config=experiments/configs/outcomes.py --workdir=DIR
Arguments: quick; learner=NAME gives experiments.train that learner's run.
"""

from typing import Any

from experiments import build
from experiments.build import Config
from experiments.configs import base

TRAINING = {'gaussian_prior': {'num_steps': 0}, 'cnp': {'num_steps': 4000}}
CONDITIONS = (
  {'outcomes': ()},
  {'outcomes': ('tie', 'both_bad')},
  {'outcomes': ('tie', 'both_bad', 'strong')},
)


def rows(name: str) -> dict[str, dict[str, Any]]:
  """Returns a learner with the likelihood of all outcomes, and with either reading of ties."""
  readings = {
    f'{name}_{reading}': {
      'name': 'as_pairs',
      'kwargs': {'base': name, 'reading': reading},
      'training': TRAINING[name],
    }
    for reading in ('dropped', 'halves')
  }
  return {name: {'training': TRAINING[name]}, **readings}


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  given = base.parse(argument)
  learners = rows('gaussian_prior')
  if not given['quick']:
    learners |= rows('cnp')
  population = build.population_config(
    'reward_ensemble',
    concentration=0.05,
    label_accuracy=0.9,
    outcomes=CONDITIONS[1]['outcomes'],
    num_users=500,
    num_slates=4,
  )
  config = base.base(population, given)
  config.evaluation.shots = (0, 2, 4, 8, 16)
  config.evaluation.num_users = 1000
  config.evaluation.rival = ''
  conditions = CONDITIONS[:2] if given['quick'] else CONDITIONS
  config = base.table(config, learners, conditions=conditions, retrain=True)
  return base.finish(config, given)
