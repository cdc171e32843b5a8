"""What users of a study of steering are shown of their choices."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from metapers.bench.language import steering, steering_results
from metapers.bench.language.steering import Study
from metapers.llm import styled_prompts, styles
from metapers.llm.tastes import Compared, Tasted

USERS, CHOICES, QUESTIONS = 3, 4, 2


@pytest.mark.parametrize('shots', [0, 1, 2, CHOICES])
def test_a_question_stands_behind_the_last_of_so_many_choices(shots):
  rng = np.random.default_rng(0)
  responses = rng.integers(3, 40, (USERS, CHOICES, 2, styles.RESPONSE_LENGTH))
  choice = rng.integers(2, size=(USERS, CHOICES))
  styled = np.zeros((USERS, CHOICES, 2, len(styles.AXES)), np.float32)
  compared = Compared(np.zeros_like(choice), responses, styled, choice)
  nobody = np.zeros((USERS, len(styles.AXES)), np.float32)
  nothing: Any = None
  users = {'test': Tasted(nobody, compared, nothing)}
  study = Study(nothing, users, nothing, nothing, nothing, nothing)
  numbers = rng.integers(styles.NUM_PROMPTS, size=(USERS, QUESTIONS))
  shown = steering.examples_of(study, 'test', numbers, shots)
  asked = styled_prompts.questions()[numbers]
  for user in range(USERS):
    last = responses[user, shots - 1, choice[user, shots - 1]] if shots else []
    for number, question in enumerate(asked[user]):
      behind = shown.tokens[user, number, 1]
      np.testing.assert_array_equal(behind, [question[0], *last, *question[1:]])


def test_seeds_have_lines_of_their_own_in_words():
  labels = {'metric': 'utility', 'ci_low': 0.0, 'ci_high': 1.0}
  rows = [
    {'learner': 'cnp', 'seed': '0', 'value': 0.25, **labels},
    {'learner': 'cnp', 'seed': '1', 'value': 0.75, **labels},
    {'learner': 'oracle', 'seed': '', 'value': 0.9, **labels},
  ]
  several = steering_results.in_words(pd.DataFrame(rows), ['utility'])
  assert [line.split('  ')[0].strip() for line in several] == [
    'row', 'cnp, seed 0', 'cnp, seed 1', 'oracle',
  ]  # fmt: skip
  one = steering_results.in_words(pd.DataFrame(rows).iloc[[0, 2]], ['utility'])
  assert one[1].startswith('cnp ') and 'seed' not in one[1]
