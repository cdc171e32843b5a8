"""Entropy by the words of prompts."""

import numpy as np
import pytest
from scipy import stats

from metapers.analysis import personal_llm_checks, word_entropy
from metapers.analysis.study_frame import Whose, pick, value_of
from metapers.analysis.voters import Voters
from metapers.analysis.word_entropy import Words

PROMPTS = ['Imagine a poem', 'What is taste?', '"Who" imagines?', 'whatever, imagine', 'Who']
COUNTS = np.array(
  [[[4, 4], [8, 0], [6, 2], [7, 1], [5, 3]], [[3, 5], [8, 0], [2, 6], [4, 4], [8, 0]]]
)


def study(**kwargs):
  voted = [Voters(Whose('diversity', 'x', 0.05, 'z'), COUNTS)]
  return word_entropy.study(PROMPTS, voted, **kwargs)


def test_words_are_whole_and_of_any_case():
  assert word_entropy.holds(PROMPTS, 'imagine').tolist() == [True, False, False, True, False]
  assert word_entropy.opens(PROMPTS, 'what').tolist() == [False, True, False, False, False]
  assert word_entropy.opens(PROMPTS, 'Who').tolist() == [False, False, True, False, True]
  assert word_entropy.holds(['a+b is c++'], 'a+b').tolist() == [True]


def test_the_entropy_of_a_group_is_the_mean_of_its_prompts():
  frame = study(words=Words(('imagine',), ('Who',)))
  entropy = stats.entropy(COUNTS, axis=-1).mean(0)
  found = value_of(frame, group='imagine', statistic='entropy')
  assert found == pytest.approx(entropy[[0, 3]].mean())
  assert value_of(frame, group='imagine', statistic='prompts') == 2
  over = value_of(frame, group='Who ...', statistic=word_entropy.OVER_REST)
  assert over == pytest.approx(entropy[[2, 4]].mean() - entropy[[0, 1, 3]].mean())
  assert value_of(frame, group='all prompts', statistic='entropy') == pytest.approx(entropy.mean())


def test_a_word_that_no_prompt_holds_has_no_entropy():
  own = pick(study(words=Words(('opinion',), ())), group='opinion', statistic='entropy')
  assert own['value'].isna().all() and len(own) == 1


def test_published_entropies_stand_beside_and_are_checked():
  assert study()['published'].isna().all()
  frame = study(has_published=True)
  row = pick(frame, group='taste', statistic='entropy').iloc[0]
  assert row['published'] == 1.333
  (verdict,) = personal_llm_checks.check_entropies(frame)
  assert verdict.passed is False and 'taste' in verdict.found
  near = frame.assign(value=frame['published'] + 0.02)
  assert personal_llm_checks.check_entropies(near)[0].passed
  assert personal_llm_checks.check_entropies(frame[:0])[0].passed is None


def test_votes_on_other_prompts_are_refused():
  with pytest.raises(ValueError, match='2 prompts, but votes on 5'):
    word_entropy.study(PROMPTS[:2], [Voters(Whose('diversity'), COUNTS)])
