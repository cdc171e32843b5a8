"""Real people: who finds which jokes funny, from 20 comparisons of theirs; unseen people.

Data: Jester (Goldberg et al. 2001, Information Retrieval 4(2)); the people who rated all 100
jokes, a comparison being two jokes whose ratings differ by more than 1. One-hot items: unseen
people, SEEN items. Three of five folds: 885 people are evaluated by learners that never saw them,
on all later comparisons and on those without any joke of the 20 first ones.

Result (`:tuned=`): after 20 comparisons `anil` and `item_neighbors` gain 8.0 points over `pooled`;
without a joke met again `cnp` 2.5, `gaussian_prior` 2.0, `item_neighbors` 1.8, not told apart.
Time: 22 minutes on one core for half of the rows; tuning 17 of them three hours of a shared one.
Command: python -m experiments.benchmark --config=experiments/configs/jester.py --workdir=DIR
  --config.population.kwargs.path=FOLDER
Arguments: quick; tuned=FILE of experiments.tune; learner=NAME gives experiments.train
  that learner's run.
"""

from experiments import build
from experiments.build import Config
from experiments.configs import base, features_k5

# One-hot jokes need no hidden layer. Rows that stand here were tuned on the validation people of
# fold 0, but for lookup and item_neighbors, whose rates and steps are those of pooled.
FAST = {'learning_rate': 1e-2}
FEWER = FAST | {'num_steps': 750}
LINEAR = {'kwargs': {'hidden': ()}, 'training': FAST}
WIDE = {'hidden': (), 'width': 100}
LEARNERS = features_k5.LEARNERS | {
  'anil': {'kwargs': WIDE, 'training': {'learning_rate': 3e-3}},
  'bayes_head': {'kwargs': WIDE, 'training': FEWER},
  'maml': LINEAR,
  'meta_sgd': LINEAR,
  'fomaml': LINEAR,
  'reptile': LINEAR,
  'cnp': {'kwargs': {'hidden': 128, 'width': 64}},
  'latent_np': {'training': {'num_steps': 750}},
  'low_rank': {
    'kwargs': {'rank': 20, 'prior_strength': 8.0},
    'training': FAST | {'num_steps': 1000},
  },
  'lookup': LINEAR | {'training': FEWER},
  'item_neighbors': {'training': FEWER},
  'per_user': LINEAR,
  'pooled': LINEAR | {'training': FEWER},
}
TRIALS = features_k5.TRIALS | {
  'item_neighbors': tuple({'kwargs': {'num_neighbors': number}} for number in (5, 20, 50, 100)),
}


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  given = base.parse(argument, tuned='')
  population = build.population_config('people', complete_raters_only=True)
  config = base.base(population, given)
  config.protocol = 'jester'
  config.evaluation.shots = (0, 1, 2, 4, 8, 16, 20)
  config.evaluation.rival = ''
  config.training.num_steps = 1500
  config.training.evaluate_every = 250
  config.training.learning_rate = 1e-3
  conditions = ({}, {'fresh_items': True})
  config = base.table(config, LEARNERS, folds=(0, 1, 2), conditions=conditions)
  config = base.with_trials(config, features_k5.RATES, TRIALS, tuned=given['tuned'])
  return base.finish(config, given)
