"""The bench: pair rules x concentrations x label accuracies x shots, on unseen users and prompts.

Every learner is trained once, on the mixture of all 36 conditions and 0 to 64 shots, and evaluated
in each of them. `--config.benchmark.retrain=True` trains anew in each.
Source: ours; no deviations.

Expected: mean accuracy over the 36 after 8 and 64 comparisons: bayes 84.9 and 87.8,
  dirichlet_mixture 83.7 and 87.4, cnp 83.7 and 86.9, bayes_head 82.0 and 85.8, pooled 78.9. Without
  the extreme pairs dirichlet_mixture is within .62 points of bayes_mixture up to 32, 1.31 at 64;
  dirichlet_mixture_fine within .50 and .51. Of extreme pairs cnp is within .55 points of bayes_pair
  from 8 on, dirichlet_mixture 3.64 below.
Time: some 80 minutes of one core for these, maml, low_rank and per_user without bayes_pair and
  bayes_mixture, which under extreme pairs take 13 and 1 to 5 minutes a condition
  (--config.evaluation.without="('bayes_pair',)" leaves one out); dirichlet_mixture_fine takes a
  minute more for each condition and seed; `:quick` 3 min 18 s on two.
Command: python -m experiments.benchmark --workdir=DIR
  --config=experiments/configs/benchmark.py
Arguments: quick; learner=NAME gives experiments.train that learner's run; pair_rule=RULE,
  concentration=α and label_accuracy=SHARE keep the conditions that have them.
"""

from typing import Any

from experiments.build import Config
from experiments.configs import base

KNOWN: dict[str, Any] = {'population': {'num_users': 2000}}  # for a prior, or a table, of users
# At .05 maml's first steps on 64 comparisons are so long that its start learns to say nothing.
LEARNERS = base.six() | {
  'maml': {'kwargs': {'inner_learning_rate': 0.01}},
  'pfn': {'training': {'num_steps': 6000, 'learning_rate': 0.003}},
  'particle': KNOWN | {'training': {'num_steps': 1000, 'learning_rate': 0.03}},
  'empirical_bayes': KNOWN | {'training': {'num_steps': 0}, 'kwargs': {'signed': False}},
  'dirichlet_mixture': KNOWN | {'training': {'num_steps': 0}},
  'hedge': base.hedge_of_scores() | {'training': {'num_steps': 8000, 'evaluate_every': 4000}},
  # Eight times the draws, for few are left after 64 comparisons without noise; see docs/results.md.
  'dirichlet_mixture_fine': KNOWN
  | {
    'name': 'dirichlet_mixture',
    'training': {'num_steps': 0},
    'kwargs': {
      'num_particles': 32768,
      'num_fit_particles': 49152,
      'scales': tuple(2.0**power for power in range(-1, 9)),
      'outside_prior': 0.005,
    },
  },
}


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  in_quick = (*base.six(), 'dirichlet_mixture')
  return base.of_protocol('metapers', LEARNERS, argument, in_quick=in_quick)
