"""Every learner passes the contract; a row names its excuses."""

import functools

import pytest

from metapers import learners
from metapers.testing import contract

SMALL = {'hidden': (16,)}
EXCUSED = {
  'pooled': contract.Exceptions(adapts=False),
  'per_user': contract.Exceptions(),
  'maml': contract.Exceptions(),
  'fomaml': contract.Exceptions(exact_gradient=False),
  'anil': contract.Exceptions(),
  'mrm': contract.Exceptions(),
  'meta_sgd': contract.Exceptions(),
  'reptile': contract.Exceptions(exact_gradient=False, constant=('log_rates',)),
  'cnp': contract.Exceptions(),
  'latent_np': contract.Exceptions(),
  'transformer_np': contract.Exceptions(),
  'np_btl': contract.Exceptions(),
  'vpl': contract.Exceptions(),
  'spl': contract.Exceptions(),
  'low_rank': contract.Exceptions(),
  'lore': contract.Exceptions(learning_rate=0.5),  # its logits are divided by 100
  'rfm': contract.Exceptions(),
  'pref': contract.Exceptions(),
  'vrf': contract.Exceptions(),
  'bayes_head': contract.Exceptions(),
  'gaussian_prior': contract.Exceptions(trained=False),
  'empirical_bayes': contract.Exceptions(trained=False),
  'lookup': contract.Exceptions(constant=('bank',)),
  'p_rm': contract.Exceptions(),
  'pal': contract.Exceptions(),
  'copl': contract.Exceptions(constant=('bank',)),
  'item_neighbors': contract.Exceptions(constant=('weights',)),
  'p_ttt': contract.Exceptions(),
  'pairwise_gp': contract.Exceptions(),
  'particle': contract.Exceptions(),
  'pfn': contract.Exceptions(),
  'dirichlet_mixture': contract.Exceptions(trained=False),
  'hedge': contract.Exceptions(order_matters=True, weight=False, constant=('log_prior',)),
  'as_pairs': contract.Exceptions(trained=False),
  'resetting': contract.Exceptions(order_matters=True, weight=False, trained=False),
}
SIZES = {
  'cnp': {'hidden': 16, 'width': 8},
  'latent_np': {'hidden': 16, 'width': 8},
  'transformer_np': {
    'hidden': 16,
    'width': 8,
    'num_layers': 1,
    'num_heads': 2,
    'num_slots': 3,
  },
  'np_btl': {'hidden': 16, 'width': 8, 'num_heads': 2},
  'vpl': {'hidden': 16, 'width': 8},
  'spl': {'hidden': 16, 'width': 8},
  'low_rank': {'num_users': 64, 'rank': 4},
  'lore': {'num_users': 64, 'rank': 4, 'inner_steps': 50},
  'rfm': {'num_users': 64, 'rank': 4},
  'pref': {'num_users': 64, 'rank': 3},
  'vrf': {'hidden': 16, 'width': 8, 'rank': 4},
  'per_user': SMALL,
  'gaussian_prior': {},
  'empirical_bayes': {'num_particles': 128, 'fit_steps': 40, 'fit_learning_rate': 0.05},
  'lookup': SMALL | {'num_histories': 64},
  'mrm': {'rank': 4, 'inner_steps': 3},
  'p_rm': SMALL | {'num_users': 64, 'width': 8},
  'pal': {'num_users': 64, 'width': 4},
  'copl': SMALL | {'num_histories': 64, 'history_length': 24},
  'p_ttt': SMALL | {'width': 8},
  'pairwise_gp': {'width': 32},
  'particle': {'num_particles': 64},
  'pfn': {'width': 8, 'hidden': 16, 'num_rounds': 2},
  'dirichlet_mixture': {'num_particles': 512, 'num_outside': 512, 'num_fit_particles': 960},
  'resetting': {
    'inner': {
      'name': 'dirichlet_mixture',
      'num_particles': 512,
      'num_outside': 512,
      'num_fit_particles': 960,
    },
    'num_starts': 4,
  },
  'hedge': {'members': {'cnp': {'hidden': 16, 'width': 8}, 'pooled': SMALL}},
  'as_pairs': {},
}


@functools.cache
def subject(name):
  learner = learners.make(name, num_features=4, **SIZES.get(name, SMALL))
  return contract.subject(learner, EXCUSED[name])


@pytest.mark.parametrize('claim', contract.CHECKS, ids=lambda claim: claim.__name__)
@pytest.mark.parametrize('name', learners.LEARNERS)
def test_contract(name, claim):
  claim(subject(name))


def test_every_learner_has_a_row():
  assert set(EXCUSED) == set(learners.LEARNERS)
