"""Every method on the same finite table: features track, 1,000 users with 50 labels, k = 5.

All learners train on the same labels of train prompts, are tuned by equally many trials on
validation users (`experiments.tune`), and see at most as many comparisons. `bayes_features` is the
exact answer to who sees features. Users: Dirichlet(0.05), random pairs, noiseless; R² is the
variance of scores within a prompt that ridge regression finds in the features.
Source: ours; the papers' hyper-parameters stand in the learners' docstrings.

Result (R² = .5, tuned, three seeds): after 5 comparisons `gaussian_prior` 68.0 %, `bayes_features`
68.7, `pooled` 63.0; fifteen methods 67.5 to 68.0. R² = .8, likewise: after 16 `latent_np` 84.8 %
beside 82.9, for what features say is not linear. R² = .3, likewise: `low_rank` 63.4 beside 64.2.
10,000 users, eight rows, likewise: `gaussian_prior` 68.7, `bayes_features` 68.8.
Time: tuning 81 minutes of one core, three seeds 32 more; `:quick` about 12 minutes of CPU.
Command: python -m experiments.benchmark --config=experiments/configs/features_k5.py --workdir=DIR
Arguments: quick; r2=.3|.5|.8; users=1000|10000; tuned=FILE of experiments.tune;
  learner=NAME gives experiments.train that learner's run.
"""

from ml_collections import config_dict

from experiments import build
from experiments.build import Config
from experiments.configs import base

NO_STEPS = {'num_steps': 0}
SMALL = {'hidden': 64, 'width': 16}
LEARNERS = {
  'cnp': {'kwargs': SMALL},
  'latent_np': {'kwargs': SMALL},
  'transformer_np': {'kwargs': {'width': 32, 'hidden': 64}},
  'np_btl': {},
  'vpl': {},
  'spl': {},
  'bayes_head': {'kwargs': {'hidden': ()}},
  'gaussian_prior': {'training': NO_STEPS},
  'empirical_bayes': {'training': NO_STEPS},
  'particle': {
    'kwargs': {'ridge': config_dict.placeholder(float)},  # the one that predicts best
    'training': {'num_steps': 300, 'learning_rate': 3e-3},
  },
  'maml': {},
  'anil': {},
  'mrm': {},
  'p_ttt': {},
  'low_rank': {'kwargs': {'prior_strength': 5.0}, 'training': {'learning_rate': 3e-3}},
  'lore': {'training': {'num_steps': 1000, 'learning_rate': 0.5}},
  'rfm': {},
  'pref': {},
  'vrf': {},
  'pal': {},
  'p_rm': {},
  'lookup': {'training': {'num_steps': 1000}},
  'copl': {'kwargs': {'hidden': ()}, 'training': {'num_steps': 1000}},
  'pairwise_gp': {'kwargs': {'learn_scales': False}, 'training': NO_STEPS},
  'per_user': {'training': {'num_steps': 1000}},
  'pooled': {'training': {'num_steps': 1000}},
}
RATES = tuple({'training': {'learning_rate': rate}} for rate in (3e-4, 1e-3, 3e-3, 1e-2))
FASTER = tuple({'training': {'learning_rate': rate}} for rate in (0.01, 0.03, 0.1, 0.5))
TRIALS = {  # rows for which another option is worth the trials more
  'lore': FASTER,
  'maml': tuple(  # at its own rate of .05 it descends too far in features that are half noise
    {'kwargs': {'inner_learning_rate': inner}, 'training': {'learning_rate': rate}}
    for inner, rate in ((0.003, 3e-3), (0.01, 3e-3), (0.01, 1e-2), (0.05, 1e-2))
  ),
  'p_rm': (  # fewer parameters, or more shrinkage, tell more than another rate
    {'training': {'learning_rate': 3e-4}},
    {'kwargs': {'shrinkage': 10.0}, 'training': {'learning_rate': 3e-4}},
    {'kwargs': {'hidden': ()}},
    {'kwargs': {'hidden': (), 'shrinkage': 10.0}},
  ),
  'gaussian_prior': tuple({'kwargs': {'num_pseudo_users': n}} for n in (0.3, 1.0, 3.0, 10.0)),
  'empirical_bayes': (
    {'kwargs': {'prior': 'dirichlet'}},
    {'kwargs': {'prior': 'logistic_normal', 'inference': 'laplace'}},
    {'kwargs': {'prior': 'gaussian', 'inference': 'laplace'}},
    {'kwargs': {'prior': 'gaussian', 'inference': 'ep'}},
  ),
  'pairwise_gp': (
    {'kwargs': {'kernel': 'linear'}},
    *({'kwargs': {'kernel': 'rbf', 'length_scale': scale}} for scale in (0.5, 1.0, 2.0)),
  ),
}


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  given = base.parse(argument, r2='0.5', users='1000', tuned='')
  config = base.base(population(float(given['r2']), int(given['users'])), given)
  config.training.num_steps = 2000
  config.training.learning_rate = 1e-3
  config.evaluation.num_users = 500
  config.evaluation.shots = (0, 1, 2, 5, 10, 16)
  config = base.table(config, LEARNERS)
  config = base.with_trials(config, RATES, TRIALS, tuned=given['tuned'])
  return base.finish(config, given)


def population(feature_r2: float = 0.5, num_users: int = 1000) -> Config:
  """Returns the users of the table."""
  return build.population_config(
    'reward_ensemble',
    concentration=0.05,
    track='features',
    feature_r2=feature_r2,
    num_users=num_users,
    num_labels=50,
  )
