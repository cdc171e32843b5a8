import json

import numpy as np
import pytest

from metapers.analysis import slates
from metapers.analysis.user_lookup import Interactions
from metapers.bench.language import in_context as studies
from metapers.bench.language import in_context_results as results
from metapers.bench.language import in_context_runs as runs
from metapers.bench.language.in_context import ZERO, Row, Sizes
from metapers.bench.language.in_context_runs import Answer, Cell
from metapers.data import synthetic
from metapers.llm.chat_tokens import ChatTokens
from metapers.llm.likelihood import Likelihood

SIZES = Sizes(num_users=12, num_queries=3, num_history=4, num_known=30, num_neighbors=2)
WINNING = Row('own', 'winning', 2)


@pytest.fixture(scope='module')
def study():
  table = synthetic.synthetic_store(num_prompts=60)
  train, test = (slates.slates_of(table, split=split) for split in ('train', 'test'))
  return studies.draw(train, test, 0.05, SIZES, seed=0)


def reward(given, weights, prompt, response):
  return float(given.scores['z'][prompt, response] @ weights)


def test_the_first_reply_of_a_query_is_the_one_that_the_user_likes_better(study):
  for user, weights in enumerate(study.weights):
    for prompt, first, second in zip(*(each[user] for each in study.queries)):
      assert first != second
      rewards = [reward(study.test, weights, prompt, one) for one in (first, second)]
      assert rewards[0] > rewards[1]


def test_histories_hold_what_each_user_likes_best_and_least(study):
  for weights, history in ((study.weights, study.history), (study.known_weights, study.known)):
    for user in range(3):
      for prompt, best, worst in zip(*(each[user] for each in history)):
        rewards = [reward(study.train, weights[user], prompt, one) for one in range(8)]
        assert (np.argmax(rewards), np.argmin(rewards)) == (best, worst)
      assert len(set(history.prompts[user])) == SIZES.num_history


def test_pools_are_the_users_own_everyones_prompts_or_near_users(study):
  own, every, near = (
    studies.of_user(studies.pools_of(study, source, SIZES), 1)
    for source in ('own', 'retrieved', 'lookup winning')
  )
  np.testing.assert_array_equal(own.prompts, study.history.prompts[1])
  assert len(every.prompts) == len(study.train.mask)
  at = study.history.prompts[1]
  np.testing.assert_array_equal(every.winning[at], study.history.winning[1])
  features = study.train.features

  def mean(given, user):
    return features[given.prompts[user], given.winning[user]].mean(0)

  mine = mean(study.history, 1)
  cosines = [mine @ one / np.linalg.norm(one) for one in (mean(study.known, u) for u in range(30))]
  expected = np.argsort(cosines)[::-1][:2]
  np.testing.assert_array_equal(near.prompts, study.known.prompts[expected].ravel())


def test_the_nearest_prompts_come_last():
  prompts = np.array([[1.0, 0], [0.6, 0.8], [0, 1.0], [0.8, 0.6]])
  pool = Interactions(np.array([2, 0, 3, 1]), np.arange(4), np.arange(4) + 4)
  found = studies.nearest_last(pool, np.array([1.0, 0]), prompts, 2)
  np.testing.assert_array_equal(found.prompts, [3, 0])
  np.testing.assert_array_equal(found.winning, [2, 1])


def test_rows_are_read_and_others_refused():
  assert studies.parse_row('zero_shot') == ZERO
  found = studies.parse_row('lookup winning - losing:both:3')
  assert found == Row('lookup winning - losing', 'both', 3)
  assert studies.parse_row(str(found)) == found
  for text in ('own:winning', 'own:winning:0', 'mine:both:1', 'own:best:1', 'own:winning:x'):
    with pytest.raises(ValueError, match='SOURCE:ARM:SHOTS'):
      studies.parse_row(text)


def test_rows_of_more_examples_than_there_are_are_refused():
  near = 'lookup winning'
  studies.check_shots([ZERO, Row('own', 'both', 4), Row(near, 'both', 8)], SIZES)
  studies.check_shots([Row('retrieved', 'both', 90)], SIZES)  # of train prompts not yet known
  few = SIZES._replace(num_known=1)
  for row, sizes, most in [
    (Row('own', 'both', 5), SIZES, 4),
    (Row(near, 'both', 9), SIZES, 8),
    (Row(near, 'both', 5), few, 4),
    (Row('retrieved', 'both', 46), SIZES, 45),
  ]:
    with pytest.raises(ValueError, match=f'{row} shows {row.shots} .* there are {most} '):
      studies.check_shots([ZERO, row], sizes, 45)


def test_long_replies_and_prompts_without_two_are_left_out(study):
  lengths = np.full(study.train.mask.shape, 5)
  lengths[0, :7], lengths[1, 3], lengths[2, 2] = 90, 90, 0
  found = studies.shortened(study.train, lengths, 50)
  assert len(found.mask) == len(study.train.mask) - 1
  assert not found.mask[0, 3] and not found.mask[1, 2] and found.mask[0, 2]
  np.testing.assert_array_equal(found.rows, study.train.rows[1:])
  with pytest.raises(ValueError, match='at most 3 tokens'):
    studies.shortened(study.train, lengths, 3)


class Letters:
  """A stand-in for a tokenizer: a token for each letter."""

  all_special_ids, added_tokens_decoder, unk_token_id = (), {}, None

  def __call__(self, text, **options):
    return {'input_ids': [ord(letter) for letter in text]}


CHAT = ChatTokens(Letters(), before=(), after=(), end=())


def texts(num_prompts=60):
  prompts = np.array([f'q{number}' for number in range(num_prompts)], object)
  responses = [[f'r{number}.{one}' for one in range(8)] for number in range(num_prompts)]
  return studies.Texts(prompts, np.array(responses, object))


def likes_longer_prompts(params, asked):
  """A model that agrees with the user where it was shown examples, and else disagrees."""
  sign = 1 if len(asked.prompt) > 20 else -1
  return Likelihood(np.array([sign * 1.0, 0.0]), np.array([2, 2]))


def answered(study, path, rows=(ZERO, WINNING)):
  journal = runs.Journal(path, {'study': 1})
  found = runs.questions(study, rows, texts(), CHAT, SIZES, most=500)
  runs.ask(found, likes_longer_prompts, {}, journal)
  journal.close()
  return journal.answers


def test_a_policy_that_agrees_where_it_is_shown_examples(study, tmp_path):
  answers = answered(study, tmp_path / 'answers.jsonl')
  frame = results.measured(study, [ZERO, WINNING], answers, num_resamples=100)
  values = frame.set_index(['row', 'metric'])['value']
  assert values['zero_shot', 'policy_accuracy'] == 0
  for metric in ('policy_accuracy', 'policy_accuracy_minus_zero_shot', 'shift_accuracy'):
    assert values['own:winning:2', metric] == pytest.approx(1)
  assert {'shorter reply', 'mean reward', 'writer'} <= set(frame['row'])
  assert (frame['ci_low'] <= frame['value'] + 1e-6).all()
  assert (frame['value'] <= frame['ci_high'] + 1e-6).all()
  assert any('own:winning:2' in line for line in results.in_words(frame))


def test_who_prefers_the_larger_mean_reward_is_counted_by_hand(study):
  rows = results.rivals(study, np.ones((*study.queries.prompts.shape, 2)))
  scores = study.test.scores['z'].mean(-1)
  expected = [
    scores[p, a] > scores[p, b] for p, a, b in zip(*(each.ravel() for each in study.queries))
  ]
  np.testing.assert_array_equal(rows['mean reward'].ravel(), expected)
  assert (rows['shorter reply'] == 0.5).all()


def test_a_killed_study_asks_only_for_what_is_missing(study, tmp_path):
  path = tmp_path / 'answers.jsonl'
  whole = answered(study, path)
  lines = path.read_bytes().splitlines(keepends=True)
  path.write_bytes(b''.join(lines[:20]) + lines[20][:9])  # in the middle of a line
  asked = []

  def counted(params, question):
    asked.append(question)
    return likes_longer_prompts(params, question)

  journal = runs.Journal(path, {'study': 1})
  found = runs.questions(study, [ZERO, WINNING], texts(), CHAT, SIZES, most=500)
  runs.ask(found, counted, {}, journal)
  journal.close()
  assert len(asked) == 12 * 3 * 2 - 19
  assert journal.answers == whole
  assert all(json.loads(line) for line in path.read_text().splitlines())


def test_answers_of_another_study_are_refused(tmp_path):
  kept = runs.Journal(tmp_path / 'a', {'study': 1})
  kept.add(Cell(ZERO, 0, 0), Answer([1.0, 0.0], [1, 1], 3, 0))
  kept.close()
  with pytest.raises(ValueError, match='asked for otherwise'):
    runs.Journal(tmp_path / 'a', {'study': 2})


def test_missing_answers_are_counted(study):
  one = {Cell(ZERO, 0, 0).key: Answer([1.0, 0.0], [1, 1], 3, 0)}
  with pytest.raises(ValueError, match='35 of 36 answers of zero_shot are missing'):
    results.measured(study, [ZERO], one)


def test_a_store_without_features_looks_nobody_up(study):
  bare = study._replace(train=study.train._replace(features=None))
  with pytest.raises(ValueError, match='looked up by features'):
    studies.pools_of(bare, 'lookup losing', SIZES)
