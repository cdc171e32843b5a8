"""What a model was chosen on is found in what it is evaluated on."""

import numpy as np
import pytest

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
