"""The headline of transfer: a preference that no user of training had.

Seen users have no weight on reward model b, new users at least half; b takes its turn among all
ten, each with its own training. On the scores track column b is shown, but was never rewarded.
`bayes` knows the new users' prior, `bayes_seen` believes them like the seen ones.
Source: ours, after leave-one-out raters in Barreto et al. 2025 (RFM).

Expected: mean accuracy over the ten after 16 comparisons 97.0 of bayes, 81.0 of bayes_seen; 95.3 of
  dirichlet_mixture, 95.3 of hedge, 86.4 of per_user, 84.9 of low_rank, 82.3 of cnp.
Time: about 130 minutes on one core, 40 of them hedge; `:quick` 1 to 3.
Command: python -m experiments.benchmark --workdir=DIR
  --config=experiments/configs/leave_one_reward_model_out.py
Arguments: quick; learner=NAME gives experiments.train that learner's run.
"""

from experiments.build import Config
from experiments.configs import base

LEARNERS = base.six() | {
  'dirichlet_mixture': {'training': {'num_steps': 0}, 'population': {'num_users': 2000}},
  'hedge': base.hedge_of_scores(),
}


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  return base.of_protocol('leave_one_reward_model_out', LEARNERS, argument)
