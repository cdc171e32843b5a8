"""What a model was chosen on is found in what it is evaluated on."""

import numpy as np
import pytest

from metapers.core.population import ItemChoices
from metapers.evaluation.leaks import selection_checks
from metapers.evaluation.leaks.selection_checks import Selection


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'people': ['a', ' c']}, "1 people, such as 'c'"),
    ({'weights': np.array([[0.2, 0.3, 0.5]])}, '1 of 2 evaluation users'),
    ({'prompts': np.array([1, 6])}, '1 of 2 evaluation prompts'),
  ],
)
def test_each_part_of_a_selection_is_compared(changes, message):
  evaluated = Selection(['b', 'c'], np.array([[0.2, 0.3, 0.5], [0.1, 0.8, 0.1]]), np.array([5, 6]))
  apart = Selection(['a'], np.array([[0.3, 0.3, 0.4]]), np.array([1, 2]))
  assert selection_checks.repeated_selection(apart, evaluated) == []
  [leak] = selection_checks.repeated_selection(apart._replace(**changes), evaluated)
  assert leak.kind == 'selection'
  assert message in leak.message


def test_an_item_of_the_test_that_validation_shows_is_found():
  held_out = np.array([False, False, True, True])
  evaluated = selection_checks.of_people(['a'], choices([[0, 1], [2, 3]]), held_out)
  apart = selection_checks.of_people(['b'], choices([[0, 1]]), held_out)
  assert selection_checks.repeated_selection(apart, evaluated) == []
  both = selection_checks.of_people(['b'], choices([[1, 3], [0, 1]]), held_out)
  [leak] = selection_checks.repeated_selection(both, evaluated)
  assert '1 of 2 evaluation prompts' in leak.message


def choices(pairs):
  chosen, rejected = np.array(pairs)[None].transpose(2, 0, 1)
  return ItemChoices(chosen, rejected, np.ones(chosen.shape, bool))
