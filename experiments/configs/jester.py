"""Real people: who finds which jokes funny, from 20 comparisons of theirs; unseen people.

Data: Jester (Goldberg et al. 2001, Information Retrieval 4(2)); the people who rated all 100
jokes, a comparison being two jokes whose ratings differ by more than 1. One-hot items: unseen
people, SEEN items. Five folds over people: everyone is judged by a learner that never saw them.
Expected: the best learner beats `pooled` by at least 7 points after 20 comparisons.
Time: about 15 minutes on 2 cores; `:quick` (one fold, short training) about 3.
Command: python -m experiments.benchmark --config=experiments/configs/jester.py --workdir=DIR
  --config.population.kwargs.path=FOLDER
Arguments: quick; learner=NAME picks the one that experiments.train takes.
"""

from experiments import build
from experiments.build import Config
from experiments.configs import base

LINEAR = {'kwargs': {'hidden': ()}}
LEARNERS = {
  'bayes_head': {'kwargs': {'hidden': (), 'width': 100}},
  'cnp': {},
  'latent_np': {},
  'maml': LINEAR,
  'fomaml': LINEAR,
  'meta_sgd': LINEAR,
  'anil': {'kwargs': {'hidden': (), 'width': 100}},
  'reptile': LINEAR,
  'low_rank': {},
  'per_user': LINEAR,
  'pooled': LINEAR,
}


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  chosen = base.parse(argument, quick=False, learner='bayes_head')
  population = build.population_config('people', complete_raters_only=True)
  config = base.base(population, build.learner_config(chosen['learner']))
  config.protocol = 'jester'
  config.evaluation.shots = (0, 1, 2, 4, 8, 16, 20)
  config.evaluation.rival = ''
  config = base.table(config, LEARNERS, folds=(0, 1, 2, 3, 4))
  return base.quick(config) if chosen['quick'] else config
