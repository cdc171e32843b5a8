import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.core.population import SEEN
from metapers.llm import text_users, tokenized
from metapers.llm.published import Comparison, Published, Turn
from metapers.llm.tokenized import Encoder, Lengths

BOS, EOS = 1, 2
ENCODER = Encoder(
  lambda turns: [BOS, *(ord(x) for turn in turns for x in turn.text)],
  lambda text: [*map(ord, text), EOS],
  lambda text: list(map(ord, text)),
)
LENGTHS = Lengths(prompt=5, response=4, text=3)


def said(user, size):
  return [Comparison(user, (Turn('user', f'q{n}'),), 'yes', 'no') for n in range(size)]


def published():
  train = said('a', 3) + said('b', 1)
  judged = said('a', 2) + said('b', 1) + said('new', 4) + said('other', 3) + said('short', 1)
  return Published(train, judged, ['a', 'b'], {'a': 'hm', 'new': 'wide'})


def splits():
  return tokenized.splits_of(published(), ENCODER, LENGTHS, num_support=2, num_query=2)


def test_users_and_their_comparisons_come_back():
  made = splits()
  assert {name: text_users.num_users(split) for name, split in made.items()} == {
    'train': 2, SEEN: 2, 'validation': 1, 'test': 1,
  }  # fmt: skip
  train = made['train'].tasks
  np.testing.assert_array_equal(train.support.mask, [[1, 1, 1], [1, 0, 0]])
  np.testing.assert_array_equal(made['test'].tasks.user, [2])
  np.testing.assert_array_equal(made['validation'].tasks.query.mask, [[1, 1]])
  features = train.support.candidates.features
  np.testing.assert_array_equal(features['prompt'][0, 2, 0], [0, 0, BOS, ord('q'), ord('2')])
  np.testing.assert_array_equal(features['prompt_mask'][0, 2, 0], [0, 0, 1, 1, 1])
  np.testing.assert_array_equal(features['response'][0, 0, 1], [ord('n'), ord('o'), EOS, 0])
  np.testing.assert_array_equal(made['train'].tasks.context['mask'], [[1, 1, 0], [0, 0, 0]])
  np.testing.assert_array_equal(made['validation'].tasks.context['mask'], [[1, 1, 1]])


def test_nobody_is_asked_about_a_turn_that_their_support_answers():
  """Of four replies one is preferred to three others."""
  turn = said('new', 2)
  of_four = [turn[0]._replace(rejected=reply) for reply in ('no', 'not', 'nay')]
  given = published()._replace(evaluation=said('a', 1) + said('other', 4) + [*of_four, turn[1]])
  made = tokenized.splits_of(given, ENCODER, LENGTHS, num_support=1, num_query=3)
  np.testing.assert_array_equal(made['test'].tasks.query.mask, [[1, 0, 0]])
  asked = made['test'].tasks.query.candidates.features['prompt'][0, 0, 0]
  np.testing.assert_array_equal(asked, [0, 0, BOS, ord('q'), ord('1')])
  only = given._replace(evaluation=said('a', 1) + of_four)
  made = tokenized.splits_of(only, ENCODER, LENGTHS, num_support=1, num_query=3)
  assert text_users.num_users(made['validation']) == text_users.num_users(made['test']) == 0


def test_what_weighs_more_is_drawn_more():
  made = splits()
  support = made['train'].tasks.support
  weight = jnp.ones_like(support.weight).at[0].set(jnp.array([1.0, 9.0, 6.0]))
  tasks = made['train'].tasks._replace(support=support._replace(weight=weight))
  weighted = {**made, 'train': made['train']._replace(tasks=tasks)}
  population = text_users.text_users(weighted, num_query=1, source='texts')
  keys = jax.random.split(jax.random.key(0), 4000)
  draw = jax.vmap(lambda key: population.sample_episode(population.arrays, key, 'train')[0])
  drawn = draw(keys)
  assert np.mean(drawn.user == 1) == pytest.approx(1 / 17, abs=0.015)
  last = drawn.query.candidates.features['prompt'][drawn.user == 0, 0, 0, -1]
  shares = [np.mean(last == ord(number)) for number in '012']
  np.testing.assert_allclose(shares, np.array([1, 9, 6]) / 16, atol=0.03)
  np.testing.assert_array_equal(drawn.query.weight, 1)


def test_they_are_a_population():
  population = text_users.text_users(splits(), num_query=2, source='texts')
  assert population.spec.num_users == 2 and population.spec.num_support == 2


def test_what_is_too_long_is_cut_behind_its_beginning():
  tokens, mask = tokenized.pad([BOS, 11, 12, 13, 14], 3, on_left=True)
  np.testing.assert_array_equal(tokens, [BOS, 13, 14])
  assert mask.all()
  np.testing.assert_array_equal(tokenized.pad([11, 12, 13], 2, on_left=False)[0], [11, 12])
  np.testing.assert_array_equal(tokenized.pad([BOS, 11], 1, on_left=True)[0], [BOS])


def test_there_may_be_no_new_users_as_of_p_soups():
  few = published()._replace(evaluation=said('a', 2))
  made = tokenized.splits_of(few, ENCODER, LENGTHS, num_support=2, num_query=2)
  for split in ('validation', 'test'):
    assert text_users.num_users(made[split]) == 0
    jax.tree.map(lambda x, y: x.shape[1:] == y.shape[1:] or pytest.fail(), made[split], made[SEEN])
  np.testing.assert_array_equal(made[SEEN].tasks.query.mask, [[1, 1], [0, 0]])
  assert text_users.text_users(made, num_query=2, source='texts').spec.num_users == 2


def test_somebody_must_be_known():
  with pytest.raises(ValueError, match='no user is known'):
    tokenized.splits_of(published()._replace(known=[]), ENCODER, LENGTHS)


def test_what_is_cut_is_counted_once(caplog):
  """Known users' comparisons and texts are in two splits."""
  turns = (Turn('user', 'q'),)
  long, longer = Turn('user', 'question'), Turn('user', 'questions')
  train = [
    Comparison('a', turns, 'yes', 'no'),
    Comparison('a', (long,), 'yes, a', 'yes, b'),  # one text after the cut
    Comparison('b', (long,), 'yes', 'no, b'),
    Comparison('b', (longer,), 'same', 'same'),  # equal before
  ]
  given = published()._replace(train=train, texts={'a': 'hm', 'b': 'wide', 'new': 'wider'})
  tokenized.splits_of(given, ENCODER, LENGTHS, num_support=2, num_query=2)
  (said,) = caplog.messages
  counts = tokenized.CutCounts(prompts=2, replies=4, texts=2, equal_pairs=1)
  assert said == f'longer than {LENGTHS}: {counts}; read without the rest'


def test_where_nothing_is_cut_nothing_is_said(caplog):
  tokenized.splits_of(published(), ENCODER, Lengths(5, 4, 4), num_support=2, num_query=2)
  assert not caplog.messages
