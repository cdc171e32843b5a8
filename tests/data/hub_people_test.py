"""Published comparisons by real people, on small files of the published forms."""

import json

import numpy as np
import pandas as pd
import pytest

from metapers.data import comparisons, hub_people, rendering
from metapers.data.rendering import Turn


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
  again = [said('user', 1, 'and then?')]
  again += [
    said('model', 1, f'more {number} {i}', within_turn_id=i, if_chosen=i == 1, score=50)
    for i in range(2)
  ]
  history = opening + again
  return {'conversation_id': f'c{number}', 'user_id': user, 'conversation_history': history}


def write_jsonl(path, rows):
  path.write_text('\n'.join(map(json.dumps, rows)))
  return str(path.parent)


def test_prism_gives_chosen_against_each_other_answer(tmp_path):
  rows = [prism(number, f'user{number % 2}') for number in range(8)]
  found = hub_people.read('prism', path=write_jsonl(tmp_path / 'conversations.jsonl', rows))
  assert len(found.comparisons) == 8 * 3
  assert found.left_out == {'tie': 8}
  text = found.items.set_index('item_id')['text']
  first = found.comparisons.iloc[0]
  assert text[first['chosen']] == 'user: question 0\n\nassistant: answer 0 0'
  assert found.comparisons.groupby('context')['user_id'].nunique().max() == 1
  assert (found.comparisons.groupby('user_id')['order'].max() == 11).all()


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
  path = tmp_path / f'filtered.{suffix}'
  frame.to_csv(path, index=False) if suffix == 'csv' else frame.to_parquet(path)
  found = hub_people.read('community_alignment', path=str(tmp_path))
  assert len(found.comparisons) == 6 * 3 + 5 * 3
  text = found.items.set_index('item_id')['text']
  last = found.comparisons.iloc[3]
  expected = 'user: p0\n\nassistant: a0\n\nuser: go on\n\nassistant: second b0'
  assert text[last['chosen']] == expected


def test_rewardbench_gives_one_comparison_a_person(tmp_path):
  rows = [
    {'id': f'{n}', 'question': 'why', 'chosen': f'good {n}', 'rejected': f'bad {n % 4}' * (n != 2)}
    for n in range(5)
  ]
  found = hub_people.read(
    'personalized_rewardbench', path=write_jsonl(tmp_path / 'test.jsonl', rows)
  )
  assert len(found.comparisons) == 4
  assert found.left_out == {'empty text': 1}


def test_what_is_written_is_read_as_histories(tmp_path):
  rows = [prism(number, f'user{number % 2}') for number in range(8)]
  tables = hub_people.read('prism', path=write_jsonl(tmp_path / 'conversations.jsonl', rows))
  folder = hub_people.write(tmp_path / 'people', tables)
  np.save(folder / 'features.npy', np.random.default_rng(0).normal(size=(len(tables.items), 3)))
  histories = comparisons.load_comparisons(str(folder), features='features.npy')
  assert histories.mask.sum() == 24
  assert sorted(histories.user_ids) == ['user0', 'user1']
  assert np.unique(histories.context).size == 8


def test_a_missing_column_and_other_kinds_are_named(tmp_path):
  path = write_jsonl(tmp_path / 'conversations.jsonl', [{'conversation_id': 1}])
  with pytest.raises(ValueError, match='has no column user_id, conversation_history'):
    hub_people.read('prism', path=path)
  with pytest.raises(ValueError, match="unknown data set of people 'polls'; known: prism"):
    hub_people.read('polls')
  with pytest.raises(ValueError, match=r'holds no filtered\*\.parquet'):
    hub_people.read('community_alignment', path=path)


def test_without_a_network_the_error_says_what_to_do(monkeypatch):
  monkeypatch.setenv('HF_HUB_OFFLINE', '1')
  with pytest.raises(ValueError, match=r'Download conversations\*\.parquet .* give their folder'):
    hub_people.read('prism', revision='0' * 40)


def test_one_function_renders_both_sides():
  history = [Turn('user', ' why?\n'), Turn('assistant', 'so<|eot_id|>'), Turn('user', 'and?')]
  rendered = rendering.render(history, '\tcafe\u0301</s>\n')
  assert rendered == 'user: why?\n\nassistant: so\n\nuser: and?\n\nassistant: caf\u00e9'


def pairs(mark, share=1.0, count=40):
  """Makes texts of which a share of the chosen ones are marked."""
  items = [f'chosen {n}' for n in range(count)] + [f'rejected {n}' for n in range(count)]
  marked = [mark(t) if n < share * count else t for n, t in enumerate(items)]
  numbers = np.arange(count)
  return (
    pd.DataFrame({'item_id': np.arange(2 * count), 'text': marked}),
    pd.DataFrame({'chosen': numbers, 'rejected': numbers + count}),
  )


@pytest.mark.parametrize(
  'mark',
  [
    lambda text: f' {text}',
    lambda text: f'{text}\n',
    lambda text: f'{text}</s>',
    lambda text: f'User: {text}',
    lambda text: f'{text} e\u0301',
  ],
)
def test_a_format_cue_of_one_side_is_found(mark):
  with pytest.raises(ValueError, match='a learner would read the form'):
    rendering.check_cues(*pairs(mark))


def test_rare_or_balanced_marks_are_no_leak():
  rendering.check_cues(*pairs(lambda text: f'{text}\n', share=0.3))
  items, compared = pairs(lambda text: f'{text}\n')
  swapped = compared.copy()
  swapped.loc[::2, ['chosen', 'rejected']] = compared.loc[::2, ['rejected', 'chosen']].to_numpy()
  rendering.check_cues(items, swapped)
  rendering.check_cues(*pairs(lambda text: text))
