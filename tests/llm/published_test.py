import json

import numpy as np
import pytest

from metapers.llm import published

# Of the ten workers with the most comparisons, as published: of training, and of evaluation.
TRAINED = (5245, 2920, 2437, 2366, 2200, 2126, 1824, 1606, 1366, 1209)
JUDGED = (1175, 643, 381, 604, 586, 360, 321, 263, 177, 411)


def test_simulated_preferences_are_the_published_ones():
  prefers_longer = ~np.asarray(published.shorter_is_preferred(10))
  assert np.sum(TRAINED) == 23_299
  assert np.asarray(TRAINED)[prefers_longer].sum() == 16_607
  assert np.asarray(JUDGED)[prefers_longer].sum() == 3_371


def summaries(worker, first, second, policies=('sup1', 'sup2')):
  texts = [{'text': text, 'policy': policy} for text, policy in zip((first, second), policies)]
  info = {'subreddit': 'tea', 'title': 'Milk?', 'post': 'First or last.'}
  return {'worker': worker, 'summaries': texts, 'info': info, 'choice': 0}


def test_tldr_keeps_supervised_policies_and_overwrites_labels_by_length():
  train = [summaries(f'w{i % 12}', 'short', 'much longer') for i in range(60)]
  train += [
    summaries('w0', 'a', 'b', ('sup1', 'ppo_sup')),
    summaries('w0', 'a', 'b', ('sup', 'ref')),
  ]
  train += [summaries(f'w{i}', 'x', 'yy') for i in range(10)]  # w10 and w11 have fewer
  made = published.tldr(train, [summaries('new', 'short', 'much longer')])
  assert len(made.known) == 10 and not {'w10', 'w11'} & set(made.known)
  assert len(made.train) == 60
  by_rank = published.shorter_is_preferred(13)
  for each in made.train:
    prefers_shorter = by_rank[made.known.index(each.user)]
    assert (len(each.chosen) < len(each.rejected)) == prefers_shorter
  assert len(made.evaluation) == 1 and made.evaluation[0].user not in made.known
  assert made.train[0].turns[0].text.endswith('POST: First or last.\nTL;DR:')


def test_summaries_are_read_without_the_space_that_their_files_begin_them_with():
  made = published.tldr([summaries('w', ' short', '  much longer ')], [])
  assert {made.train[0].chosen, made.train[0].rejected} == {'short', 'much longer '}


def test_p_soups_leaves_out_repetitions_and_the_sentence_of_the_profile():
  def records(name):
    asked = f'Why is tea hot? {published.PROFILES[name]}'
    pairs = [('yes', 'no'), ('yes', 'no'), ('same', 'same'), ('no', 'yes'), ('well', 'no')]
    return [
      {'user_input': asked, 'completion_a': one, 'completion_b': other} for one, other in pairs
    ]

  made = published.p_soups({name: records(name) for name in published.PROFILES})
  assert len(made.train) + len(made.evaluation) == 18 and len(made.evaluation) == 2
  assert {each.turns[0].text for each in made.train} == {'Why is tea hot?'}
  assert made.known == ['P1A', 'P1B', 'P2A', 'P2B', 'P3A', 'P3B']
  with pytest.raises(ValueError, match='no records of P3B'):
    published.p_soups({name: [] for name in list(published.PROFILES)[:-1]})


def person(user):
  survey = dict.fromkeys(published.SURVEY, 'x')
  stated = {'values': 5, 'fluency': 1, 'safety': 3}
  return {
    'user_id': user, 'num_completed_conversations': 1, 'self_description': 'curious',
    'order_stated_prefs': stated, **survey,
  }  # fmt: skip


def said(turn, role, content, is_chosen=False):
  return {'turn': turn, 'role': role, 'content': content, 'if_chosen': is_chosen}


def conversation(name, user, long=False):
  end = 'x' * (published.LONGEST if long else 1)
  history = [
    said(0, 'user', 'hello'), said(0, 'model', 'hi', True), said(0, 'model', 'go'),
    said(0, 'model', f'no{end}'), said(1, 'user', 'more'), said(1, 'model', 'this', True),
    said(1, 'model', f'that{end}'),
  ]  # fmt: skip
  return {
    'conversation_id': name, 'user_id': user, 'conversation_turns': 2,
    'conversation_history': history,
  }  # fmt: skip


def prism():
  survey = [person(f'u{i}') for i in range(20)]
  survey.append({**person('none'), 'num_completed_conversations': 0})
  rows = [conversation(f'c{i}_{j}', f'u{i}') for i in range(20) for j in range(1 if i < 4 else 10)]
  return published.prism(survey, [*rows, conversation('long', 'u5', long=True)])


def test_prism_divides_users_and_then_conversations():
  made = prism()
  users = {each.user for each in made.train}
  assert users == set(made.known)
  assert not users & {f'u{i}' for i in range(4)}  # who have one conversation
  judged = {each.user for each in made.evaluation}
  assert judged == {f'u{i}' for i in range(20)}
  # Three pairs in each conversation; nine of ten are trained on.
  assert len(made.train) == 27 * len(made.known)
  assert len(made.train) + len(made.evaluation) == 3 * 164
  assert prism() == made


def test_prism_shows_what_was_said_before_and_by_whom():
  made = prism()
  second = next(each for each in made.train if each.rejected.startswith('that'))
  assert [turn.text for turn in second.turns] == ['hello', 'hi', 'more']
  text = made.texts[second.user]
  assert text.startswith('User textual information: preference: fluency, safety; ')
  assert 'self_description: curious; age: x; ' in text and 'employment: x;' in text


def test_records_are_read_from_both_kinds_of_files(tmp_path):
  (tmp_path / 'a.json').write_text(json.dumps([{'x': 1}]))
  (tmp_path / 'b.jsonl').write_text('{"x": "1\u2028\x85"}\n\n{"x": 2}\n')
  (tmp_path / 'c.json').write_text('{"x": 1}')
  assert published.read_records(tmp_path / 'a.json') == [{'x': 1}]
  assert published.read_records(tmp_path / 'b.jsonl') == [{'x': '1\u2028\x85'}, {'x': 2}]
  with pytest.raises(ValueError, match='no list of records'):
    published.read_records(tmp_path / 'c.json')
