"""Published comparisons by real people, on small files of the published forms."""

import json

import numpy as np
import pandas as pd
import pytest

from metapers.data import comparisons, hub, hub_people


def said(role, turn, text, **fields):
  return {'role': role, 'turn': turn, 'content': text, **fields}


def prism(number, user):
  """A conversation of two turns: four answers, then two that tie."""
  opening = [said('user', 0, f'question {number}')]
  for i in range(4):
    chosen, score = i == number % 4, 90 if i == number % 4 else 10 + i
    opening.append(
      said('model', 0, f'answer {number} {i}', within_turn_id=i, if_chosen=chosen, score=score)
    )
  opening += [said('user', 1, 'and then?')]
  opening += [
    said('model', 1, f'more {number} {i}', within_turn_id=i, if_chosen=i == 1, score=50)
    for i in range(2)
  ]
  return {'conversation_id': f'c{number}', 'user_id': user, 'conversation_history': opening}


def texts(found):
  return found.items.sort_values('item_id')['text'].tolist()


def most(found, column, *, per):
  return max(len(set(values)) for _, values in found.comparisons.groupby(per)[column])


def write_jsonl(path, rows):
  path.write_text('\n'.join(map(json.dumps, rows)))
  return str(path.parent)


def test_prism_gives_chosen_against_each_other_answer(tmp_path):
  rows = [prism(number, f'user{number % 2}') for number in range(8)]
  found = hub_people.read_people('prism', path=write_jsonl(tmp_path / 'conversations.jsonl', rows))
  assert len(found.comparisons) == 8 * 3
  assert found.left_out == {'tie': 8}
  assert (
    texts(found)[found.comparisons['chosen'].tolist()[0]]
    == 'user: question 0\n\nassistant: answer 0 0'
  )
  assert most(found, 'user_id', per='conversation') == 1
  for _, order in found.comparisons.groupby('user_id')['order']:
    assert order.tolist() == list(range(12))


def alignment(number):
  row = {'conversation_id': number, 'annotator_id': number % 3, 'first_turn_prompt': f'p{number}'}
  row |= {f'first_turn_response_{x}': f'{x}{number}<|end_of_text|>' for x in 'abcd'}
  row |= {'first_turn_preferred_response': f'response_{"abcd"[number % 4]}'}
  row |= {'second_turn_prompt': 'go on', 'second_turn_preferred_response': 'response_b'}
  return row | {f'second_turn_response_{x}': f'second {x}{number}' for x in 'abcd'}


@pytest.mark.parametrize('suffix', ['csv', 'parquet'])
def test_community_alignment_goes_on_with_the_preferred_answer(tmp_path, suffix):
  frame = pd.DataFrame([alignment(number) for number in range(6)])
  frame.loc[5, ['second_turn_prompt', 'second_turn_preferred_response']] = None
  path = tmp_path / f'community_alignment.{suffix}'
  frame.to_csv(path, index=False) if suffix == 'csv' else frame.to_parquet(path)
  found = hub_people.read_people('community_alignment', path=str(tmp_path))
  assert len(found.comparisons) == 6 * 3 + 5 * 3
  last = found.comparisons['chosen'].tolist()[3]
  expected = 'user: p0\n\nassistant: a0\n\nuser: go on\n\nassistant: second b0'
  assert texts(found)[last] == expected


def message(text, role='model'):
  return {'role': role, 'content': text}


def personal(number, split, **fields):
  context = [message('hello', 'user'), message('hi'), message(f'question {number}', 'user')]
  row = {'user_id': f'user{number % 2}', 'conversation_id': f'c{number}', 'split': split}
  chosen, rejected = message(f'good {number}'), message(f'bad {number % 4}')
  return row | {'context': context, 'chosen': chosen, 'rejected': rejected} | fields


@pytest.mark.parametrize('suffix', ['jsonl', 'parquet'])
def test_personal_rewardbench_reads_all_splits(tmp_path, suffix):
  for at, split in enumerate(('train', 'validation', 'test')):
    rows = [personal(4 * at + number, split) for number in range(4)]
    path = tmp_path / f'{split}-00000-of-00001.{suffix}'
    write_jsonl(path, rows) if suffix == 'jsonl' else pd.DataFrame(rows).to_parquet(path)
  found = hub_people.read_people('personal_rewardbench_prism', path=str(tmp_path))
  assert len(found.comparisons) == 12
  assert texts(found)[0] == (
    'user: hello\n\nassistant: hi\n\nuser: question 0\n\nassistant: good 0'
  )
  assert set(found.comparisons['turn']) == {1}


def test_both_sides_of_the_arena_are_read_alike_whether_message_or_list(tmp_path):
  rows = [personal(n, 'train', chosen=[message(f'good {n}')]) for n in range(30)]
  rows += [personal(30, 'train', chosen=[message('one'), message('two')])]
  rows += [personal(31, 'train', context=[]), personal(32, 'train', rejected=None)]
  for split in ('train', 'validation', 'test'):
    write_jsonl(tmp_path / f'{split}.jsonl', rows if split == 'train' else rows[:1])
  found = hub_people.read_people('personal_rewardbench_arena', path=str(tmp_path))
  assert len(found.comparisons) == 30
  assert found.left_out == {'malformed conversation': 3, 'repeated pair': 2}
  assert texts(found)[0].endswith('assistant: good 0')


def test_the_other_rewardbench_gives_one_comparison_a_person_in_each_area(tmp_path):
  for area in hub_people.AREAS:
    (tmp_path / area).mkdir()
    rows: list[dict] = [
      {'id': f'{area}{n}', 'question': 'why', 'chosen': f'good {n}', 'rejected': f'bad {n % 4}'}
      for n in range(5)
    ]
    rows[2]['rejected'], rows[3]['chosen'], rows[4]['question'] = '', None, None
    write_jsonl(tmp_path / area / 'test-00000-of-00001.jsonl', rows)
  found = hub_people.read_people('personalized_rewardbench', path=str(tmp_path))
  assert len(found.comparisons) == 3 * 2
  assert found.left_out == {'empty text': 3 * 3}
  assert not any('nan' in text or 'None' in text for text in texts(found))


def read_prism(tmp_path, *rows):
  return hub_people.read_people('prism', path=write_jsonl(tmp_path / 'conversations.jsonl', rows))


def test_ties_unrated_and_contradicted_choices_are_counted_not_compared(tmp_path):
  row = prism(0, 'ann')
  scores = [None, 90, 95, 30]  # of the four answers; the first is chosen
  for entry, given in zip(row['conversation_history'][1:5], scores):
    entry['score'] = given
  found = read_prism(tmp_path, row, prism(1, 'ann'))
  assert len(found.comparisons) == 3
  assert found.left_out == {'unrated, or rated above the chosen one': 3, 'tie': 2}
  row['conversation_history'][1]['score'] = 90
  found = read_prism(tmp_path, row, prism(1, 'ann'))
  assert found.left_out == {'unrated, or rated above the chosen one': 1, 'tie': 1 + 2}


def test_an_answer_marked_twice_is_one_choice_and_a_repeated_rival_one_rival(tmp_path):
  row = prism(0, 'ann')
  history = row['conversation_history'][:5]
  history[2] = history[1] | {'within_turn_id': 1}  # the chosen one again
  history[4] = history[3] | {'within_turn_id': 3}
  found = read_prism(tmp_path, row | {'conversation_history': history})
  assert len(found.comparisons) == 1
  assert found.left_out == {'repeated pair': 1}


@pytest.mark.parametrize(
  ('spoil', 'reason'),
  [
    (lambda row: row.update(conversation_history=None), 'malformed conversation'),
    (lambda row: row.update(conversation_history='said'), 'malformed conversation'),
    (lambda row: row['conversation_history'][1].pop('role'), 'malformed conversation'),
    (lambda row: row['conversation_history'][1].pop('turn'), 'malformed conversation'),
    (lambda row: row['conversation_history'][0].update(role='system'), 'malformed conversation'),
    (lambda row: row['conversation_history'][0].update(content=None), 'empty text'),
    (lambda row: row['conversation_history'][1].update(content=None), 'empty text'),
    (lambda row: row.update(user_id=None), 'no person or no conversation'),
    (lambda row: row.update(conversation_id=None), 'no person or no conversation'),
    (lambda row: row.update(conversation_id='c1'), 'conversation of another person'),
  ],
)
def test_a_malformed_row_is_counted_and_spoils_no_other(tmp_path, spoil, reason):
  row = prism(0, 'ann')
  spoil(row)
  found = read_prism(tmp_path, prism(1, 'bob'), row)
  assert set(found.comparisons['user_id']) == {'bob'}
  assert len(found.comparisons) == 3
  assert found.left_out[reason] > 0


def test_a_turn_without_a_choice_ends_the_conversation_and_is_counted(tmp_path):
  rows = [alignment(number) for number in range(2)]
  rows[0]['first_turn_preferred_response'] = None
  rows[1]['second_turn_response_b'] = 'EMPTY STRING'
  path = write_jsonl(tmp_path / 'community_alignment.jsonl', rows)
  found = hub_people.read_people('community_alignment', path=path)
  assert found.comparisons['conversation'].tolist() == ['1'] * 3
  assert found.left_out == {'turn without one question and one choice, and what follows': 2}


def test_no_hold_out_of_contexts_parts_a_conversation_or_shows_a_text_twice(tmp_path):
  rows = [alignment(number) | {'first_turn_prompt': f'p{number % 4}'} for number in range(12)]
  for row in rows:
    row |= {f'first_turn_response_{x}': f'{x} {row["first_turn_prompt"]}' for x in 'abcd'}
  path = write_jsonl(tmp_path / 'community_alignment.jsonl', rows)
  found = hub_people.read_people('community_alignment', path=path)
  assert most(found, 'context', per='conversation') == 1
  assert most(found, 'user_id', per='conversation') == 1
  assert most(found, 'turn', per='conversation') == 2
  assert len(set(texts(found))) == len(found.items)  # though three people saw each


def test_what_is_written_is_read_as_histories(tmp_path):
  rows = [prism(number, f'user{number % 2}') for number in range(8)]
  tables = hub_people.read_people('prism', path=write_jsonl(tmp_path / 'conversations.jsonl', rows))
  folder = hub_people.write_people(tmp_path / 'people', tables)
  np.save(folder / 'features.npy', np.random.default_rng(0).normal(size=(len(tables.items), 3)))
  histories = comparisons.load_comparisons(str(folder), features='features.npy')
  assert histories.mask.sum() == 24
  assert sorted(histories.user_ids) == ['user0', 'user1']
  assert np.unique(histories.context).size == 8
  about = json.loads((folder / 'source.json').read_text())
  assert about['left_out'] == {'tie': 8} and 'CC BY-NC' in about['licence']
  assert about['source'] == 'HannahRoseKirk/prism-alignment (from local files)'


def test_a_missing_column_and_other_kinds_are_named(tmp_path):
  path = write_jsonl(tmp_path / 'conversations.jsonl', [{'conversation_id': 1}])
  with pytest.raises(
    ValueError, match='has no column user_id, conversation_history; it has conver'
  ):
    hub_people.read_people('prism', path=path)
  with pytest.raises(ValueError, match="unknown data set of people 'polls'; known: prism"):
    hub_people.read_people('polls')
  with pytest.raises(ValueError, match=r'holds no community_alignment\*\.parquet'):
    hub_people.read_people('community_alignment', path=path)


def test_without_a_network_the_error_says_what_to_do(monkeypatch):
  monkeypatch.setattr('datasets.config.HF_HUB_OFFLINE', True)
  monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
  with pytest.raises(ValueError, match=r'Download conversations\*\.parquet .* give their folder'):
    hub_people.read_people('prism', revision='0' * 40)


def test_a_branch_is_read_at_its_commit_which_is_recorded(monkeypatch):
  asked = []

  def read_table(name, revision, path, *, split, **kwargs):
    asked.append((name, revision, split))
    return pd.DataFrame([personal(n, split) for n in range(4)])

  monkeypatch.setattr(hub, 'commit_of', lambda name, revision: 'c0ffee')
  monkeypatch.setattr(hub, 'read_table', read_table)
  name = hub_people.PUBLISHED['personal_rewardbench_arena'].name
  assert hub_people.read_people('personal_rewardbench_arena').source == f'{name} (commit c0ffee)'
  assert asked == [(name, 'c0ffee', split) for split in ('train', 'validation', 'test')]
