"""Real texts, constructed preferences: which replies a new user prefers, read from features.

Store: made by experiments.extract with extract_constructed.py; users are Dirichlet(0.05) ensembles
of thirteen constructed rewards. Features track: all learners train on the same 1,000 users with 50
labels of train prompts each; unseen users, unseen prompts, random pairs, noiseless. Rows and trials
are those of features_k5.py, without `empirical_bayes`.

Result (one seed, after 16 comparisons): as it is `gaussian_prior` 62.2 %, `bayes_features` 64.7,
  `pooled` 57.0; tuned 61.8, 64.9 and 56.8.
Time: some 45 minutes of a core; tuning 14 rows 72 of a shared one.
Command: python -m experiments.benchmark --config=experiments/configs/constructed_preferences.py
  --workdir=DIR --config.population.kwargs.store=STORE
Arguments: quick; tuned=FILE of experiments.tune; learner=NAME gives experiments.train that
  learner's run.
"""

from experiments import build
from experiments.build import Config
from experiments.configs import base, features_k5

# A Dirichlet prior of 391 features takes more than 20 minutes to fit.
LEARNERS = {name: row for name, row in features_k5.LEARNERS.items() if name != 'empirical_bayes'}


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  given = base.parse(argument, tuned='')
  population = build.population_config(
    'reward_ensemble', concentration=0.05, track='features', num_users=1000, num_labels=50
  )
  config = base.base(population, given)
  config.protocol = 'constructed_preferences'
  config.evaluation.num_users = 500
  config.evaluation.rival = ''
  config.training.num_steps = 1000
  config.training.evaluate_every = 100
  config.training.steps_per_call = 50
  config.training.learning_rate = 1e-3
  config = base.table(config, LEARNERS)
  config = base.with_trials(config, features_k5.RATES, features_k5.TRIALS, tuned=given['tuned'])
  return base.finish(config, given)
