"""P-DPO on SmolLM2-135M-Instruct: users with constructed preferences compare real replies.

Half of 20 users like short replies and half long ones, so that who does not know the user is right
half of the time. Replies are those of eight language models to AlpacaEval's prompts that fit whole
(96 tokens; their prompts 64, template included); half of the prompts are trained on, and known and
new users are evaluated on the others. New users get the posterior of clusters; individuals leave
them generic, as in the paper, for a fit by gradients takes minutes of a core for each. Study
`axes`: formal or casual replies, too, on pairs whose lengths differ by at most a tenth. With the
argument `lists` it is lists or prose on such pairs alone, of replies of up to 224 tokens, for among
shorter ones they are few: 8 users, 24 pairs each, who start apart, at lower rates.
Source: Li et al. 2024, arXiv:2402.05133, in small.
Deviations: as of p_dpo_styles.py; preferences are constructed, of rewards that the store holds. The
individual term alone is trained (α = 1): half of the time a step takes with both. λ = 0.3 holds up
what was chosen, so that what is written is whole.

Result (study `length`, individual, 64 comparisons a user, one seed): .900 of held-out questions of
known users, .531 by the base that is told; replies of 19 and of 125 tokens for who likes them short
and long. Of `lists` .531: not learned, see there.

Time: see docs/language_model.md.
Command: python -m experiments.p_dpo --config=experiments/configs/p_dpo_smollm2.py --workdir=DIR
  --config.model.folder=SMOLLM2 --config.data.folder=STORE
  (SMOLLM2 of experiments.smollm2, STORE of experiments.extract with extract_constructed.py)
Arguments: lists.
"""

from experiments import constructed_studies, published_studies
from experiments.build import Config
from experiments.configs import base

ROWS = {
  'individual': {},
  'cluster_2': {'kind': 'cluster', 'num_clusters': 2},
  'dpo': {'kind': 'uniform', 'num_tokens': 0, 'alpha': 0.0},
}


# Study -> known users, comparisons of each, and what users like.
SHORT = {
  'length': (20, 64, ('short', 'long')),
  'axes': (20, 24, ('short', 'long', 'formal', 'casual')),
}
LISTS = {'lists': (8, 24, ('lists', 'prose'))}


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  has_lists = base.switches(argument, 'lists')['lists']
  config = published_studies.config_of(
    constructed_studies.KIND,
    lengths={'prompt': 64, 'response': 224 if has_lists else 96},
    rows=ROWS,
    beta=0.1,
    chunk_size=4,
  )
  config.model.is_checkpointed = False  # a sixth faster, of 5 GiB in all
  config.data_seed = 0
  config.seeds = (0,)
  config.policy.update({'alpha': 1.0, 'nll_weight': 0.3, 'inner_steps': 0})
  config.training.update(
    {'batch_size': 8, 'learning_rate': 2e-3, 'user_learning_rate': 0.03, 'warmup_steps': 5}
  )
  if has_lists:
    config.policy.offset_scale = 1.0
    config.training.update(
      {
        'num_steps': 80,
        'batch_size': 4,
        'chunk_size': 2,
        'learning_rate': 5e-4,
        'user_learning_rate': 3e-3,
      }
    )
  config.max_shown = 1024  # tokens of a prompt with examples
  config.beside = tuple(constructed_studies.BESIDE)
  config.evaluation = {'shots': (0, 1, 5)}
  config.studies = {
    name: {
      'users': {
        'num_users': num_users,
        'num_pairs': num_pairs,
        'num_held_out': 24,
        'num_query': 8,
        'tastes': tastes,
      },
      'training': {},
      'rows': tuple(ROWS),
    }
    for name, (num_users, num_pairs, tastes) in (LISTS if has_lists else SHORT).items()
  }
  return config
