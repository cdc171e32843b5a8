"""Real people: who finds which jokes funny, from 20 comparisons of theirs; unseen people.

Data: Jester (Goldberg et al. 2001, Information Retrieval 4(2)); the people who rated all 100
jokes, a comparison being two jokes whose ratings differ by more than 1. One-hot items: unseen
people, SEEN items. Three of five folds: 885 people are evaluated by learners that never saw them.
Expected: the best learner beats `pooled` by at least 7 points after 20 comparisons.
Time: about 19 minutes on one core without the row of `gaussian_prior`, whose three folds took four
beside other runs; `:quick` (one fold, short training) about 3.
Command: python -m experiments.benchmark --config=experiments/configs/jester.py --workdir=DIR
  --config.population.kwargs.path=FOLDER
Arguments: quick; learner=NAME gives experiments.train that learner's run.
"""

from experiments import build
from experiments.build import Config
from experiments.configs import base

# Tuned on the validation people of fold 0. One-hot jokes need no hidden layer.
LINEAR = {'kwargs': {'hidden': ()}}
WIDE = {'hidden': (), 'width': 100}
LEARNERS = {
  'gaussian_prior': {'training': {'num_steps': 0}},
  'anil': {'kwargs': WIDE, 'training': {'learning_rate': 3e-3}},
  'bayes_head': {'kwargs': WIDE, 'training': {'num_steps': 750}},
  'maml': LINEAR,
  'meta_sgd': LINEAR,
  'fomaml': LINEAR,
  'reptile': LINEAR,
  'cnp': {'kwargs': {'hidden': 128, 'width': 64}, 'training': {'learning_rate': 1e-3}},
  'latent_np': {'training': {'learning_rate': 1e-3, 'num_steps': 750}},
  'low_rank': {'kwargs': {'rank': 20, 'prior_strength': 8.0}, 'training': {'num_steps': 1000}},
  'per_user': LINEAR,
  'pooled': {'kwargs': {'hidden': ()}, 'training': {'num_steps': 750}},
}


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  given = base.parse(argument)
  population = build.population_config('people', complete_raters_only=True)
  config = base.base(population, given)
  config.protocol = 'jester'
  config.evaluation.shots = (0, 1, 2, 4, 8, 16, 20)
  config.evaluation.rival = ''
  config.training.num_steps = 1500
  config.training.evaluate_every = 250
  config.training.learning_rate = 1e-2
  config = base.table(config, LEARNERS, folds=(0, 1, 2))
  return base.finish(config, given)
