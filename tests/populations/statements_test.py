"""What simulated users say of themselves is true, and is all that their context holds."""

import jax
import numpy as np
import pytest
from small_tables import table

from metapers.core.population import SEEN, SPLITS
from metapers.evaluation import adaptation
from metapers.populations import statements
from metapers.populations.reward_ensemble import reward_ensemble

SIZES = {'num_support': 8, 'num_query': 8, 'num_slates': 4, 'num_held_out': 200, 'num_users': 100}


def small(**changes):
  return reward_ensemble(table(), **{**SIZES, **changes})


@pytest.mark.parametrize('split', ['validation', 'test', SEEN])
def test_a_context_says_truly_which_reward_model_has_most_of_the_weight(split):
  population = small(statement_rate=0.5)
  assert population.spec.num_context == 4
  tasks, truth = adaptation.episodes(population, split=split, num_users=100)
  said = np.asarray(statements.read(tasks.context))
  speaks = said != statements.SILENT
  assert 30 < speaks.sum() < 70
  np.testing.assert_array_equal(said[speaks], np.asarray(truth.weights).argmax(-1)[speaks])
  np.testing.assert_array_equal(tasks.context[~speaks], 0)
  np.testing.assert_array_equal(np.asarray(tasks.context)[speaks].sum(-1), 2)


def test_statements_change_nothing_else_of_the_users():
  plain, asked = small(), small(statement_rate=0.5)
  assert plain.spec.num_context == 0 and not plain.simulation.has_statements
  for split in SPLITS:
    found = [p.simulation.users(p.arrays, split) for p in (plain, asked)]
    jax.tree.map(np.testing.assert_array_equal, *(one._replace(statement=None) for one in found))
  first, second = (adaptation.episodes(p, split='test', num_users=20)[0] for p in (plain, asked))
  jax.tree.map(np.testing.assert_array_equal, first.query, second.query)


def test_all_may_speak():
  tasks, _ = adaptation.episodes(small(statement_rate=1.0), split='test', num_users=50)
  assert np.all(np.asarray(statements.read(tasks.context)) >= 0)


@pytest.mark.parametrize(
  'given', [{'statement_rate': 1.5}, {'statement_rate': 0.5, 'excluded_model': 'first'}]
)
def test_impossible_rates_are_refused(given):
  with pytest.raises(ValueError, match='statement_rate must lie in'):
    small(**given)
