"""The protocols of the field as data: who is trained on, who is evaluated, after how much.

A protocol names options of a population; `experiments/configs` turns each into a table of learners.
A condition changes options of the population under which learners are evaluated, and may say how:
`split` ('test' or 'seen' users), `change_at` and `window` of a stream.
"""

import itertools
import types
from collections.abc import Mapping
from typing import Any, NamedTuple

from metapers.core.population import SEEN

Changes = Mapping[str, Any]
NONE: Changes = types.MappingProxyType({})
SHOTS = (0, 1, 2, 4, 8, 16, 32, 64)
ALPHAS = (0.01, 0.05, 0.1, 1.0)
RULES = ('random', 'extreme', 'controversial')
ACCURACIES = (1.0, 0.9, 0.75)
# The published order of PersonalLLM's reward models is alphabetical.
REWARD_MODELS = (
  'beaver_7b', 'gemma_2b', 'gemma_7b', 'llama3_sfairx', 'mistral_raft', 'mistral_ray',
  'mistral_weqweasdas', 'oasst_deberta_v3', 'oasst_pythia_1b', 'oasst_pythia_7b',
)  # fmt: skip
ON_HELD_OUT = {'support_prompts': 'held_out'}  # where the support is evaluated, too
UNSEEN_AND_SEEN: tuple[Changes, ...] = (NONE, {'split': SEEN})


class Protocol(NamedTuple):
  """Who is trained on, who is evaluated, and how.

  source: paper and code it is read from. deviations: where ours departs from it, each a sentence.
  population: name of its factory, options: what it is given to train on.
  conditions: changes of options under which every learner is evaluated.
  shots: comparisons given of an evaluated user; turns, in a stream.
  num_users: evaluated under each condition. training, evaluation: changes of a config's parts.
  retrain: train anew under each condition, in place of once on `options`.
  quick, quick_conditions: options, and the conditions, of a variant of a minute.
  """

  source: str
  deviations: tuple[str, ...] = ()
  population: str = 'reward_ensemble'
  options: Changes = NONE
  conditions: tuple[Changes, ...] = (NONE,)
  shots: tuple[int, ...] = SHOTS
  num_users: int = 500
  training: Changes = NONE
  evaluation: Changes = NONE
  retrain: bool = False
  quick: Changes = NONE
  quick_conditions: tuple[Changes, ...] = (NONE,)


def condition(rule: str, alpha: float, accuracy: float) -> Changes:
  """Returns one cell of the grid of protocol `metapers`."""
  return {'pair_rule': rule, 'concentration': alpha, 'label_accuracy': accuracy}


# What who is not told the condition may believe; 90 and 75 % of labels are right at about these
# temperatures.
UNTOLD = tuple(
  {'concentration': alpha, 'temperature': temperature}
  for alpha, temperature in itertools.product(ALPHAS, (0.0, 0.21, 0.67))
)

PROTOCOLS: dict[str, Protocol] = {
  'metapers': Protocol(
    source='ours',
    options={
      'pair_rule': RULES,
      'concentration': ALPHAS,
      'label_accuracy': ACCURACIES,
      'num_support': 64,
    },
    conditions=tuple(itertools.starmap(condition, itertools.product(RULES, ALPHAS, ACCURACIES))),
    evaluation={'mixture': UNTOLD},
    quick={'num_support': 16, 'num_slates': 4},
    quick_conditions=(
      condition('random', 0.05, 1.0),
      condition('extreme', 0.05, 1.0),
      condition('controversial', 0.05, 1.0),
      condition('random', 0.01, 1.0),
      condition('random', 1.0, 1.0),
      condition('random', 0.05, 0.75),
    ),
  ),
  'personal_llm': Protocol(
    source='Zollo et al. 2024, arXiv:2409.20296, section 4; namkoong-lab/PersonalLLM',
    deviations=(
      'An episode has distinct prompts and its support is of train prompts; in the code prompts '
      'repeat and a test prompt may stand in its own history.',
      'Picks are of the eight responses, in place of generations of a language model.',
      'Users of training, validation and test are disjoint; there two scripts share a seed.',
    ),
    options={
      'concentration': 0.05,
      'pair_rule': 'extreme',
      'num_users': 1000,
      'num_labels': 50,
      'num_support': 5,
      'num_slates': 16,
    },
    conditions=UNSEEN_AND_SEEN,
    shots=(0, 1, 2, 3, 4, 5),
    num_users=1000,
    quick={'num_users': 200, 'num_slates': 4},
  ),
  'lore': Protocol(
    source='Bose et al. 2025, arXiv:2504.14439; facebookresearch/LoRe, PersonalLLM/',
    deviations=(
      'Features are the store\'s, in place of a 4,096-wide hidden state of Skywork-Reward-8B.',
      '200 of the 1,000 test prompts for each user; num_query=1000 is all.',
      'Seen users are refitted on their 47 labels; there their trained weights are kept.',
      'Model choice on 500 validation users; there none.',
    ),
    options={
      'concentration': 0.1,
      'pair_rule': 'extreme',
      'normalization': 'raw',
      'track': 'features',
      'num_users': 1000,
      'num_labels': 47,
      'num_support': 47,
      'num_query': 200,
      'num_held_out': 500,
    },
    conditions=UNSEEN_AND_SEEN,
    shots=(0, 1, 3, 5, 9, 47),
    quick={'num_users': 200, 'num_query': 40, 'num_slates': 4},
    quick_conditions=UNSEEN_AND_SEEN,
  ),
  'copl': Protocol(
    source='Choi et al. 2025, EMNLP; ml-postech/CoPL, data/datagen_plm.py',
    deviations=(
      'What a learner sees of a response are its four scores, in place of its id or text.',
      'A pair is drawn from those on which the four disagree; there agreed pairs are dropped.',
      'Training divides the 16 labels of a user in two; there 15 are context and 1 is the query.',
    ),
    options={
      'concentration': 0.1,
      'pair_rule': 'controversial',
      'normalization': 'raw',
      'reward_models': ('gemma_7b', 'mistral_weqweasdas', 'llama3_sfairx', 'oasst_deberta_v3'),
      'responses': (5, 6, 7),
      'num_users': 10_000,
      'num_labels': 16,
      'num_support': 15,
      'num_query': 100,
    },
    conditions=UNSEEN_AND_SEEN,
    shots=(0, 1, 2, 4, 8, 15),
    evaluation={'rival': ''},
    quick={'num_users': 500, 'num_query': 32, 'num_slates': 4},
  ),
  'p_ttt': Protocol(
    source='Wang et al. 2026 (P-TTT), its table 1 on PersonalLLM',
    deviations=(
      'Seen and new users are reported apart; there 1,000 pairs of each are pooled.',
      'The concentration is not stated there; ours is 0.05.',
      'Context pairs are of train prompts, each user\'s own; there of a pool of 100 pairs.',
    ),
    options={
      'concentration': 0.05,
      'num_users': 100,
      'num_labels': 100,
      'num_support': 4,
      'num_query': 50,
      'num_held_out': 20,
    },
    conditions=UNSEEN_AND_SEEN,
    shots=(0, 1, 2, 4),
    num_users=100,
    quick={'num_slates': 4},
    quick_conditions=UNSEEN_AND_SEEN,
  ),
  'np_btl': Protocol(
    source='Kobalczyk et al. 2024, arXiv:2412.13998, synthetic experiment and its code',
    deviations=('No pair of the query was adapted to; there some were.',),
    population='np_btl',
    options={'num_held_out': 5000},
    conditions=(NONE, {'pairs': 'published'}),
    shots=(0, 1, 3, 5, 10),
    num_users=5000,
    training={'num_steps': 1000, 'evaluate_every': 250},
    evaluation={'rival': '', 'num_validation_users': 1000},
  ),
  'leave_one_reward_model_out': Protocol(
    source='ours, after the leave-one-out raters of Barreto et al. 2025 (RFM)',
    options={'concentration': 0.05, 'excluded_model': REWARD_MODELS[0], 'excluded_share': 0.5},
    conditions=tuple({'excluded_model': name} for name in REWARD_MODELS),
    shots=(0, 1, 2, 4, 8, 16),
    retrain=True,
    evaluation={'seen_prior': True},
    quick={'num_slates': 4},
    quick_conditions=({'excluded_model': REWARD_MODELS[0]},),
  ),
  'alpha_shift': Protocol(
    source='ours',
    options={'concentration': 0.1},
    conditions=tuple({'concentration': alpha} for alpha in ALPHAS),
    shots=(0, 1, 2, 4, 8, 16),
    evaluation={'seen_prior': True},
    quick={'num_slates': 4},
    quick_conditions=({'concentration': 0.01}, {'concentration': 1.0}),
  ),
  'shot_mismatch': Protocol(
    source='ours, after a reviewer of Singh et al. 2025 (FSPO)',
    options={'concentration': 0.05, 'num_support': 64},
    training={'shots': 8},
    quick={'num_support': 32, 'num_slates': 4},
  ),
  'label_noise': Protocol(
    source='ours, after the noisy raters of Barreto et al. 2025 (RFM)',
    options={'concentration': 0.05, 'label_accuracy': (1.0, 0.9, 0.75, 0.6), 'num_support': 32},
    conditions=tuple({'label_accuracy': accuracy} for accuracy in (1.0, 0.9, 0.75, 0.6)),
    shots=(0, 1, 2, 4, 8, 16, 32),
    quick={'num_support': 16, 'num_slates': 4},
    quick_conditions=({'label_accuracy': 1.0}, {'label_accuracy': 0.75}),
  ),
  'label_flip': Protocol(
    source='Wang et al. 2026 (P-TTT), flip rate: what changes when every label of the support does',
    deviations=('Flip rates are of simulated users, on every query of theirs.',),
    options={'pair_rule': RULES, 'concentration': 0.05},
    conditions=tuple({'pair_rule': rule} for rule in RULES),
    shots=(0, 1, 2, 4, 8, 16),
    evaluation={'flips': True},
    quick={'num_slates': 4},
    quick_conditions=({'pair_rule': 'random'},),
  ),
  'budget': Protocol(
    source='ours, after the (users, labels) grid of Barreto et al. 2025 (RFM)',
    options={'concentration': 0.05, 'num_users': 1000, 'num_labels': 32},
    conditions=tuple(
      {'num_users': users, 'num_labels': labels}
      for users, labels in itertools.product((50, 200, 1000), (8, 32, 128))
    ),
    shots=(0, 1, 2, 4, 8, 16),
    retrain=True,
    quick={'num_slates': 4},
    quick_conditions=({'num_users': 50, 'num_labels': 8}, {'num_users': 200, 'num_labels': 32}),
  ),
  'poisoning': Protocol(
    source='ours',
    options={'concentration': 0.05, 'num_users': 1000, 'num_labels': 32},
    conditions=tuple(
      {'adversaries': kind, 'adversarial_share': share}
      for kind in ('reversed', REWARD_MODELS[0])
      for share in (0.0, 0.05, 0.1, 0.2, 0.4)
    ),
    shots=(0, 1, 2, 4, 8, 16),
    retrain=True,
    quick={'num_users': 200, 'num_slates': 4},
    quick_conditions=tuple(
      {'adversaries': 'reversed', 'adversarial_share': share} for share in (0.0, 0.4)
    ),
  ),
  'stream': Protocol(
    source='ours',
    options={'concentration': 0.05, 'num_support': 64, 'num_slates': 64} | ON_HELD_OUT,
    conditions=(
      {'change_at': 0, 'window': 0},
      {'change_at': 32, 'window': 0},
      {'change_at': 32, 'window': 16},
    ),
    shots=(4, 8, 16, 24, 32, 36, 40, 48, 64),
    num_users=300,
    quick={'num_support': 32, 'num_slates': 32},
    quick_conditions=({'change_at': 0, 'window': 0}, {'change_at': 16, 'window': 8}),
  ),
}  # fmt: skip
