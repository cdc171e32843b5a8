"""Leaks between real people, their conversations and pairs are found where they are planted."""

import functools

import jax
import numpy as np
import pytest

from metapers.core.population import ItemChoices
from metapers.core.tables import Histories
from metapers.evaluation import leaks
from metapers.evaluation.leaks import matching, people_checks
from metapers.evaluation.leaks.matching import Codes
from metapers.populations import people

OPTIONS = {'num_support': 4, 'num_query': 8}


@functools.cache
def made_up(*, conversations_each=1, num_users=60, longest=12):
  """People who compare items of their own, in conversations of several comparisons."""
  rng = np.random.default_rng(0)
  size = num_users * longest * 2
  pair = np.arange(size).reshape(num_users, longest, 2)
  pair = rng.permuted(pair, axis=-1).astype(np.int32)
  turn = np.arange(longest) * conversations_each // longest
  context = (np.arange(num_users)[:, None] * conversations_each + turn).repeat(2)
  return Histories(
    features=rng.standard_normal((size, 5)).astype(np.float32),
    item_ids=np.arange(size),
    user_ids=np.array([f'person {number}' for number in range(num_users)]),
    chosen=pair[..., 0],
    rejected=pair[..., 1],
    mask=np.arange(longest) < rng.integers(6, longest + 1, num_users)[:, None],
    context=context,
    identity=False,
    num_dropped=0,
    source='made up',
    content_hash='',
  )


@functools.cache
def plain():
  return people.people(made_up(), **OPTIONS)


def found(population=None, **options):
  return leaks.find_leaks(population or plain(), **options)


def kinds(population=None, **options):
  return {kind for kind, of_kind in found(population, **options).items() if of_kind}


def with_people(**splits):
  """Replaces the people of some splits, each given as people and their rows."""
  arrays = plain().arrays
  people, rows = ({name: each[part] for name, each in splits.items()} for part in (0, 1))
  return plain()._replace(
    arrays=arrays._replace(people={**arrays.people, **people}, rows={**arrays.rows, **rows})
  )


def group(split, some=slice(None)):
  """Some people of a split, and their rows."""
  arrays = plain().arrays
  return row((arrays.people[split], arrays.rows[split]), some)


def row(part, index):
  return jax.tree.map(lambda x: np.asarray(x)[index], part)


def joined(*parts):
  return jax.tree.map(lambda *x: np.concatenate(x), *parts)


def test_people_of_their_own_have_none():
  assert found() == {'people': [], 'selection': [], 'pairs': [], 'cues': []}


def test_a_history_of_two_splits_is_found():
  both = joined(group('test', slice(1, None)), group('train', slice(3, 4)))
  same_history, same_id = found(with_people(test=both))['people']
  expected = '1 of 12 test people have the very history of a train person'
  assert same_history.message.startswith(expected)
  assert 'would be expected by chance' in same_history.message
  assert not same_history.is_certain and same_id.is_certain  # likeness is no identity
  assert same_id.message.startswith('1 people,')


def test_evaluating_on_people_that_were_chosen_on_is_found():
  both = joined(group('test'), group('validation', slice(0, 2)))
  assert 'selection' in kinds(with_people(test=both))


def test_two_ids_of_one_person_are_found():
  ids = np.where(np.arange(60) < 30, made_up().user_ids[::-1], made_up().user_ids)
  twice = np.char.add(ids, np.where(np.arange(60) < 30, ' ', ''))
  assert 'people' in kinds(people.people(made_up()._replace(user_ids=twice), **OPTIONS))
  assert people_checks.shared_people({'train': [1, 2], 'test': [12]}) == []


def crowd(num_people, num_pairs, agreement, seed):
  """People who were all asked the same, and agree."""
  rng = np.random.default_rng(seed)
  swapped = rng.random((num_people, num_pairs)) > agreement
  first = np.broadcast_to(2 * np.arange(num_pairs), swapped.shape)
  chosen, rejected = np.where(swapped, first + 1, first), np.where(swapped, first, first + 1)
  every = np.ones(swapped.shape, bool)
  return ItemChoices(chosen, rejected, every)


@pytest.mark.parametrize(('num_pairs', 'agreement'), [(2, 0.5), (4, 0.75), (40, 0.99)])
def test_people_who_agree_by_accident_are_not_one(num_pairs, agreement):
  groups = {
    name: crowd(size, num_pairs, agreement, seed)
    for seed, (name, size) in enumerate({'train': 300, 'test': 60}.items())
  }
  answers = [{tuple(answer) for answer in own.chosen.tolist()} for own in groups.values()]
  assert answers[0] & answers[1]
  assert people_checks.shared_histories(groups, 2 * num_pairs) == []


def test_people_who_agree_more_than_others_do_are_one():
  groups = {'train': crowd(300, 40, 0.6, 0), 'test': crowd(60, 40, 0.6, 1)}
  assert people_checks.shared_histories(groups, 80) == []
  groups['test'] = joined(groups['test'], row(groups['train'], slice(8, 10)))
  [leak] = people_checks.shared_histories(groups, 80)
  assert leak.message.startswith('2 of 62 test people')


def test_the_number_expected_by_chance_is_that_of_chance():
  # 300 and 60 people who answer 3 pairs at random: 60 · 300 / 2³ pairs, far more than one each.
  groups = {'train': crowd(300, 3, 0.5, 0), 'test': crowd(60, 3, 0.5, 1)}
  parts = {split: people_checks.coded(own, 6) for split, own in groups.items()}
  sizes = people_checks.num_asked_alike(*(matching.keys(asked) for asked, _ in parts.values()))
  assert (sizes == 300).all()
  chance = people_checks.AnswerShares(parts)
  shares = [np.exp(chance.log(*row)) for row in zip(*parts['test'], strict=True)]
  np.testing.assert_allclose(np.mean(shares), 1 / 8, rtol=0.1)


def test_a_history_is_found_in_another_order():
  groups = {'train': crowd(300, 40, 0.6, 0), 'test': crowd(60, 40, 0.6, 1)}
  copy = jax.tree.map(lambda x: x[:1, ::-1], groups['train'])
  assert people_checks.shared_histories({**groups, 'test': copy}, 80)


def test_one_conversation_of_a_person_on_both_sides_is_found():
  given = found(contexts_are_conversations=True)['conversations']
  assert len(given) == 2  # of validation and of test
  assert given[0].message.endswith('set item_holdout=True')


def test_conversations_held_out_whole_have_none():
  histories = made_up(conversations_each=6)
  population = people.people(histories, **OPTIONS, item_holdout=True)
  options = {'contexts_are_conversations': True}
  assert kinds(population, **options) == set()
  assert 'conversations' in kinds(people.people(histories, **OPTIONS), **options)


def test_a_conversation_of_two_splits_is_found():
  items, arrays = plain().items, jax.device_get(plain().arrays)
  groups = {split: items.choices(arrays, split) for split in ('train', 'test')}
  assert people_checks.shared_conversations(groups, made_up().context) == []
  context = made_up().context.copy()
  first, second = (groups[split].chosen[0, 0] for split in ('train', 'test'))
  context[second] = context[first]
  [leak] = people_checks.shared_conversations(groups, context)
  assert leak.message.startswith('1 of 13 conversations of test people are of train people')


def test_a_pair_of_the_support_is_found_in_the_query():
  support, query = (np.array([[3, 5], [4, 9]]), np.array([[9, 5], [8, 8]]))
  every = np.ones((2, 2), bool)
  [leak] = people_checks.repeated_pairs('test', Codes(support, every), Codes(query, every))
  assert leak.message.startswith('1 query comparisons of 1 test users')
  hidden = np.array([[True, False], [True, True]])
  assert not people_checks.repeated_pairs('test', Codes(support, every), Codes(query, hidden))


def test_a_pair_of_the_support_is_found_in_the_query_of_episodes():
  def careless(arrays, user, split):
    seen, truth = plain().episode_of(arrays, user, split)
    return seen._replace(query=jax.tree.map(lambda x: x[:, ...], seen.support)), truth

  assert kinds(plain()._replace(episode_of=careless)) == {'pairs'}


def test_a_cue_of_people_is_found():
  histories = made_up()
  features = histories.features.copy()
  features[histories.rejected.ravel(), 1] = 0
  population = people.people(histories._replace(features=features), **OPTIONS)
  assert kinds(population) == {'cues'}


def test_conversations_of_items_without_contexts_are_refused():
  items = plain().items._replace(contexts=None)
  with pytest.raises(ValueError, match='of real people, and here are none'):
    leaks.find_leaks(plain()._replace(items=items), contexts_are_conversations=True)
