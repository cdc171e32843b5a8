"""Real people, a negative control: who finds which argument more convincing; unseen people.

Data: UKPConvArg1 (Habernal and Gurevych 2016, ACL), CC BY 4.0. People agree (a pooled score does
best) and half of them made four comparisons or fewer: a good learner shrinks to the pool.
Expected: no shrinking learner's paired interval to `pooled` lies wholly below -0.5 point.
Time: about 16 minutes on one core for the rows that stand here without `gaussian_prior`, of which
one fold took 83 minutes beside other runs (less since); `:quick` (one fold, short training) about 3
for the same.
Command: python -m experiments.benchmark --config=experiments/configs/ukpconvarg.py --workdir=DIR
  --config.population.kwargs.path=FOLDER
Arguments: quick; tuned=FILE of experiments.tune; learner=NAME gives experiments.train
  that learner's run.
"""

from experiments import build
from experiments.build import Config
from experiments.configs import base, features_k5, jester

# Rows that stand here were tuned on the validation people of folds 0 to 2; the others are as they
# come, like those of features_k5. Of as many items as there are, a Dirichlet prior takes hours.
LINEAR = {'kwargs': {'hidden': ()}}
FEWER = {'training': {'num_steps': 750}}
ALL = {name: row for name, row in features_k5.LEARNERS.items() if name != 'empirical_bayes'}
LEARNERS = ALL | {
  'bayes_head': {'kwargs': {'hidden': (), 'width': 16, 'prior_scale': 0.1}},
  'cnp': {'training': {'learning_rate': 3e-4, 'num_steps': 400}},
  'maml': LINEAR,
  'anil': {'kwargs': {'hidden': (), 'width': 16}, 'training': {'learning_rate': 1e-3}},
  'low_rank': {'kwargs': {'prior_strength': 8.0}} | FEWER,
  'lookup': LINEAR | FEWER,
  'item_neighbors': FEWER,
  'per_user': LINEAR,
  'pooled': LINEAR,
}


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  given = base.parse(argument, tuned='')
  population = build.population_config('people', num_support=8, num_query=16)
  config = base.base(population, given)
  config.protocol = 'ukpconvarg'
  config.evaluation.shots = (0, 1, 2, 4, 8)
  config.evaluation.rival = ''
  config.evaluation.num_validation_users = 1000  # all there are
  config.training.num_steps = 1500
  config.training.evaluate_every = 50
  config.training.steps_per_call = 50
  config.training.learning_rate = 1e-2
  config = base.table(config, LEARNERS, folds=(0, 1, 2, 3, 4))
  config = base.with_trials(config, features_k5.RATES, jester.TRIALS, tuned=given['tuned'])
  return base.finish(config, given)
