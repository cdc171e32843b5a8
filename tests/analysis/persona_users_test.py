"""Users who are texts, against loops."""

import numpy as np
import pytest

from metapers.analysis import persona_users, slates
from metapers.analysis.persona_users import NOBODY, PERSONAS
from metapers.data import synthetic


@pytest.fixture(scope='module')
def given():
  return slates.slates_of(synthetic.synthetic_store(num_prompts=200), split='all')


def test_the_prompt_holds_the_persona_and_is_as_it_was_for_nobody():
  told = persona_users.told('I am a cook.', 'What now?')
  assert told.index('I am a cook.') < told.index('What now?')
  assert persona_users.told(NOBODY, 'What {now}?') == 'What {now}?'


def test_our_personas_are_different_and_short():
  assert persona_users.checked_personas(PERSONAS) == PERSONAS and len(PERSONAS) == 20
  assert max(map(len, PERSONAS)) <= 90


@pytest.mark.parametrize('lines', [[], ['one', ''], ['same', 'same ']])
def test_fewer_than_two_different_personas_are_refused(lines):
  with pytest.raises(ValueError, match='at least two different'):
    persona_users.checked_personas(lines)


def test_prompts_are_kept_of_which_five_responses_are_short(given):
  rng = np.random.default_rng(0)
  sizes = rng.integers(1, 30, size=given.mask.shape)
  mask = given.mask & (rng.random(given.mask.shape) < 0.8)
  own = given._replace(mask=mask)
  texts = np.vectorize(lambda size: 'x' * size, otypes=[object])(sizes)
  found = persona_users.short_slates(own, texts, most_chars=22, num_prompts=1000)
  kept = [[bool(real and size <= 22) for real, size in zip(*row)] for row in zip(mask, sizes)]
  fits = [row for row in range(len(mask)) if sum(kept[row]) >= 5]
  assert found.rows.tolist() == own.rows[fits].tolist() and 0 < len(fits) < len(mask)
  assert found.mask.tolist() == [kept[row] for row in fits]
  np.testing.assert_array_equal(found.scores['raw'], given.scores['raw'][fits])
  few = persona_users.short_slates(own, texts, most_chars=22, num_prompts=5, seed=3)
  assert len(few.rows) == 5 and set(few.rows) <= set(found.rows)
  with pytest.raises(ValueError, match='no prompt has 5 responses of at most 1 characters'):
    persona_users.short_slates(own, texts, most_chars=1, num_prompts=5)


def test_utilities_are_likelihoods_in_all_per_token_and_over_nobody():
  rng = np.random.default_rng(1)
  log_probs, counts = rng.normal(size=(3, 2, 4)), rng.integers(0, 9, size=(2, 4))
  found = persona_users.utilities(log_probs, counts)
  for voter, prompt, response in np.ndindex(3, 2, 4):
    place = voter, prompt, response
    own, size = log_probs[place], max(counts[prompt, response], 1)
    assert found[persona_users.TOTAL][place] == own
    assert found[persona_users.PER_TOKEN][place] == pytest.approx(own / size)
    gain = own - log_probs[0, prompt, response]
    assert found[persona_users.OVER_NOBODY][place] == pytest.approx(gain)


def test_the_best_real_response_is_picked_and_ties_are_drawn():
  mask = np.array([[True, True, False], [True, True, True]])
  utility = np.array([[[1.0, 2, 9], [5, 4, 3]], [[2.0, 1, np.nan], [1, 1, 0]]])
  many = np.stack([persona_users.picks(utility, mask, seed=seed) for seed in range(300)])
  assert (many[:, 0] == [1, 0]).all() and (many[:, 1, 0] == 0).all()
  assert set(many[:, 1, 1]) == {0, 1}
  assert np.mean(many[:, 1, 1]) == pytest.approx(0.5, abs=0.1)


def test_who_gave_no_answer_has_no_vote():
  utility = np.array([[[1.0, 2], [np.nan, np.nan]], [[2.0, 1], [1.0, 2]]])
  picked = persona_users.picks(utility, np.ones((2, 2), bool))
  assert picked.tolist() == [[1, -1], [0, 1]]
  counts = persona_users.votes(picked, 2)
  assert counts.tolist() == [[[1, 1], [0, 1]]]


def test_moved_counts_votes_that_differ_from_nobodys():
  picked, nobody = np.array([[0, 1, 2], [0, 0, 2], [1, 1, -1]]), np.array([0, 1, 2])
  changed, missing = persona_users.moved(picked, nobody)
  assert changed.value == pytest.approx(100 * 2 / 6)  # the last prompt lacks an answer
  assert missing.value == pytest.approx(100 / 9)
  only = persona_users.moved(np.array([[-1]]), np.array([0]))
  assert [cell.statistic for cell in only] == [persona_users.MISSING]


def test_who_finds_all_alike_has_no_vote_to_be_moved_from():
  utility = np.array([[1.0, np.nan, 2.0], [3.0, np.nan, 3.0], [np.nan, np.nan, np.nan]])
  assert persona_users.vote_for_nobody(utility, np.array([2, 0, 1])).tolist() == [2, -1, -1]
