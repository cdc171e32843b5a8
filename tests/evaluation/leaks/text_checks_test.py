"""Forms of texts that reveal the chosen one, and prompts of two splits, are found where planted."""

import numpy as np
import pyarrow as pa
import pytest

from metapers.core.population import SPLITS, ItemChoices
from metapers.core.tables import Histories
from metapers.data import feature_store, manifest, synthetic
from metapers.evaluation import leaks
from metapers.evaluation.leaks import text_checks
from metapers.populations import reward_ensemble

PLAIN = [f'A reply of its own, number {n}, with {"so " * (n % 7)}many words.' for n in range(60)]
OTHER = [f'Another reply, number {n}, that is {"very " * (n % 5)}short.' for n in range(60)]


def test_texts_written_alike_have_no_cue():
  assert text_checks.revealing_forms(PLAIN, OTHER[::-1], ['Why?'] * 60) == []


@pytest.mark.parametrize(
  ('spoil', 'form'),
  [
    (lambda text: str([text, 'another']), 'marks of a list'),
    (lambda text: f'user: why?\n\nassistant: {[text, text]}', 'marks of a list'),
    (lambda text: f'"{text}"', 'a quote or bracket at the start'),
    (lambda text: text[: len(text) // 2 * 2], 'an odd number of characters'),
    (lambda text: f'{text}</s>', 'marks of a chat template'),
    (lambda text: f' {text}', 'white space at the start'),
    (lambda text: f'Why? {text}', 'the prompt'),
  ],
)
def test_a_form_of_one_side_is_found(spoil, form):
  odd = [text if len(text) % 2 else text + '.' for text in OTHER]
  found = text_checks.revealing_forms(odd, [spoil(text) for text in PLAIN], ['Why?'] * 60)
  assert any(leak.message.startswith(form) for leak in found)
  assert any(
    leak.message.startswith(form)
    for leak in text_checks.revealing_forms([spoil(text) for text in PLAIN], odd, ['Why?'] * 60)
  )


def test_texts_must_come_in_pairs():
  with pytest.raises(ValueError, match='2 chosen texts, 1 rejected ones and 2 prompts'):
    text_checks.revealing_forms(['a', 'b'], ['c'])


def histories(num_people=20, longest=6):
  """People who compare texts of their own, half of whose comparisons are masked."""
  rng = np.random.default_rng(0)
  items = rng.permutation(num_people * longest * 2).reshape(num_people, longest, 2)
  return Histories(
    features=np.zeros((items.size, 1), np.float32),
    item_ids=np.arange(items.size),
    user_ids=np.arange(num_people),
    chosen=items[..., 0],
    rejected=items[..., 1],
    mask=np.arange(longest) < np.array([[2], [4]] * (num_people // 2)),
    context=np.zeros(items.size, int),
    identity=False,
    num_dropped=0,
    source='made up',
    content_hash='',
  )


def test_a_form_of_the_items_that_people_rejected_is_found():
  people = histories()
  choices = ItemChoices(people.chosen, people.rejected, people.mask)
  texts = np.array([PLAIN[item % 60] for item in range(len(people.item_ids))], object)
  assert text_checks.revealing_items(texts, choices) == []
  hidden = texts.copy()
  hidden[people.rejected[~people.mask]] = "['A reply.', 'Another.']"  # nobody sees these
  assert text_checks.revealing_items(hidden, choices) == []
  rejected = people.rejected[people.mask]
  texts[rejected] = [str([text, text]) for text in texts[rejected]]
  found = text_checks.revealing_items(texts, choices, most_pairs=50)
  assert any(leak.message.startswith('marks of a list reveals the chosen text') for leak in found)
  assert {leak.kind for leak in found} == {'texts'}


def test_a_prompt_of_two_splits_of_a_store_is_found(tmp_path):
  table = synthetic.synthetic_store(num_prompts=30)
  prompts = [f'Why {number}?' for number in range(30)]
  train, test = (np.flatnonzero(table.prompt_split == SPLITS.index(n)) for n in ('train', 'test'))
  prompts[test[1]] = f' {prompts[train[4]].upper()}\n'
  responses = [[f'text {p} {r}' for r in range(8)] for p in range(30)]
  folder = feature_store.write_store(
    tmp_path / 'store',
    table,
    manifest.Provenance('synthetic, for a test', 'by hand', 'Apache-2.0', 'none', '1'),
    texts=pa.table({'prompt': prompts, 'responses': responses}),
  )
  table = feature_store.open_store(folder)
  sizes = {'num_support': 1, 'num_query': 1, 'num_slates': 1, 'num_held_out': 8}
  spoilt = reward_ensemble.reward_ensemble(table, **sizes)
  [leak] = leaks.find_leaks(spoilt, num_users=8)['texts']
  assert leak.message.startswith(f'1 of {len(test)} test prompts have the text of a train prompt')
  with pytest.raises(ValueError, match='leak of texts: 1 of'):
    leaks.require_no_leaks({'texts': [leak]})
  sound = np.array([f'{text} {number}' for number, text in enumerate(prompts)], object)
  population = reward_ensemble.reward_ensemble(table._replace(prompt_texts=sound), **sizes)
  found = leaks.find_leaks(population, num_users=8)
  assert found['texts'] == [] and leaks.not_run(population, found) == {}


def test_prompts_without_words_are_no_texts_that_repeat():
  table = synthetic.synthetic_store(num_prompts=30)._replace(prompt_texts=np.full(30, '', object))
  sizes = {'num_support': 1, 'num_query': 1, 'num_slates': 1, 'num_held_out': 8}
  population = reward_ensemble.reward_ensemble(table, **sizes)
  found = leaks.find_leaks(population, num_users=8)
  assert 'texts' not in found
  assert leaks.not_run(population, found) == {'texts': 'no texts of prompts are kept'}
  some = np.array(['', ' '] * 14 + ['Why?', 'Who?'], object)
  population = reward_ensemble.reward_ensemble(table._replace(prompt_texts=some), **sizes)
  assert leaks.find_leaks(population, num_users=8)['texts'] == []
