"""Episodes of real people: nothing leaks between people, between parts, or between items."""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from absl import logging
from hypothesis import given, settings
from hypothesis import strategies as st
from populations.made_up_people import all_episodes, items_of, made_up

from metapers.core import task
from metapers.core.population import SPLITS
from metapers.data import comparisons
from metapers.populations import people, people_episodes


@functools.cache
def plain():
  """Thirty people with 16 comparisons each, no pair twice."""
  histories = made_up(lengths=[16] * 30, num_items=300)
  return histories, people.people(histories, num_support=5, num_query=8)


@functools.cache
def plain_episodes(split):
  return all_episodes(plain()[1], split)


@pytest.mark.parametrize('num_folds', [2, 5])
def test_splits_are_disjoint_and_cover_and_folds_test_everyone_once(num_folds):
  tested = []
  for fold in range(num_folds):
    splits = people.split_users(57, fold=fold, num_folds=num_folds, validation_share=0.2, seed=0)
    assert sorted(np.concatenate(list(splits.values()))) == list(range(57))
    tested.extend(splits['test'])
  assert sorted(tested) == list(range(57))


def test_support_and_query_share_no_pair():
  histories = made_up(num_items=5, num_users=60)  # ten pairs, so that people repeat themselves
  population = people.people(histories, num_support=6, num_query=10)
  drawn = all_episodes(population, 'test')
  for support, query in zip(items_of(drawn.support), items_of(drawn.query)):
    shown = {frozenset(pair) for pair in support.tolist() if pair[0] >= 0}
    assert not shown & {frozenset(pair) for pair in query.tolist() if pair[0] >= 0}
  assert drawn.query.mask.any()


@pytest.mark.parametrize('part', ['support', 'query'])
def test_choices_are_the_persons_own_and_position_does_not_tell_them(part):
  choices = plain_episodes('train')._asdict()[part]
  np.testing.assert_array_equal(items_of(choices).argmax(-1), choices.choice)
  assert abs(choices.choice.mean() - 0.5) < 4 * 0.5 / np.sqrt(choices.choice.size)


def test_fixed_episodes_follow_the_persons_order():
  histories, _ = plain()
  splits = people.split_users(30, fold=0, num_folds=5, validation_share=0.2, seed=0)
  for split, users in splits.items():
    drawn = plain_episodes(split)
    np.testing.assert_array_equal(items_of(drawn.support).max(-1), histories.chosen[users, :5])
    np.testing.assert_array_equal(items_of(drawn.query).max(-1), histories.chosen[users, 5:13])


def test_the_same_user_gives_the_same_bits_alone_or_in_a_batch():
  _, population = plain()
  alone, truth = population.episode_of(population.arrays, jnp.array(2), 'test')
  assert truth is None
  for one, other in zip(
    jax.tree.leaves(alone), jax.tree.leaves(task.take(plain_episodes('test'), 2))
  ):
    np.testing.assert_array_equal(one, other)


def test_known_users_are_numbered_as_in_histories():
  _, population = plain()
  num_users = population.spec.num_users
  np.testing.assert_array_equal(plain_episodes('train').user, np.arange(num_users))
  np.testing.assert_array_equal(plain_episodes('test').user, num_users)
  known = jax.jit(population.histories)(population.arrays).support
  assert known.candidates.features.shape == (num_users, 13, 2, 300)
  np.testing.assert_array_equal(items_of(known)[:, :5], items_of(plain_episodes('train').support))


def test_drawn_episodes_vary_and_come_from_their_split():
  histories, population = plain()
  users = people.split_users(30, fold=0, num_folds=5, validation_share=0.2, seed=0)['train']
  keys = jax.random.split(jax.random.key(0), 64)
  draw = jax.jit(jax.vmap(lambda a, key: population.sample_episode(a, key, 'train')[0], (None, 0)))
  drawn = draw(population.arrays, keys)
  assert np.unique(drawn.user).size > users.size // 2
  assert np.unique(items_of(drawn.support), axis=0).shape[0] == 64
  for part in (drawn.support, drawn.query):
    own = histories.chosen[users[np.asarray(drawn.user)]]
    assert np.all(np.any(items_of(part).max(-1)[:, :, None] == own[:, None], -1))


@functools.cache
def episode_of_nine():
  layout = people_episodes.Layout(num_support=4, num_query=12, num_users=3)

  @jax.jit
  def episode(length, key):
    chosen = jnp.arange(9)[None]
    mask = chosen < length
    person = people_episodes.People(chosen, chosen + 9, mask, jnp.zeros_like(mask))
    arrays = people_episodes.Arrays(jnp.eye(18), {'test': person}, {})
    priority = jax.random.uniform(key, (9,))
    user = jnp.array(0)
    return people_episodes.episode(arrays, user, 'test', layout, priority=priority, key=key)

  return episode


@settings(max_examples=60)
@given(length=st.integers(0, 9), seed=st.integers(0, 20))
def test_parts_fit_a_person_of_any_length(length, seed):
  drawn = episode_of_nine()(length, jax.random.key(seed))
  size = min(4, length // 2)
  assert drawn.support.mask.sum() == size
  assert drawn.query.mask.sum() == length - size
  used = np.concatenate([items_of(drawn.support).min(-1), items_of(drawn.query).min(-1)])
  assert sorted(used[used >= 0]) == list(range(length))
  for part in (drawn.support, drawn.query):
    is_chosen = task.chosen_mask(part) & part.candidates.mask
    np.testing.assert_array_equal(is_chosen.sum(-1), part.mask)  # a real candidate of each real one
    assert np.all(np.asarray(part.candidates.features)[~np.asarray(part.mask)] == 0)


@pytest.mark.parametrize('contexts', [1, 6])
def test_items_are_held_out_by_contexts_where_there_are_several(contexts):
  histories = made_up(num_users=1, num_items=18, contexts=contexts, identity=False)
  held_out = people.hold_out_items(histories, 0.34, 0.5, seed=0)
  assert list(held_out) == (['test'] if contexts == 1 else ['validation', 'test'])
  unseen = np.sum(list(held_out.values()), 0)
  assert unseen.sum() == 6 and unseen.max() == 1
  split_contexts = [np.unique(unseen[histories.context == c]).size for c in range(contexts)]
  assert split_contexts == [2 if contexts == 1 else 1] * contexts


@pytest.mark.parametrize('contexts', [1, 6])
def test_held_out_items_are_alone_in_the_query_and_nowhere_else(contexts):
  histories = made_up(num_users=80, num_items=18, contexts=contexts, identity=False)
  options = {'num_support': 6, 'num_query': 10, 'item_holdout_share': 0.34, 'validation_share': 0.5}
  population = people.people(histories, item_holdout=True, **options)
  held_out = people.hold_out_items(histories, 0.34, 0.5, seed=0)
  unseen = np.any(list(held_out.values()), 0)
  for split in ('train', 'validation', 'test'):
    drawn = all_episodes(population, split)
    support, query = (
      items_of(part, population.scaling)[np.asarray(part.mask)]
      for part in (drawn.support, drawn.query)
    )
    assert support.size
    assert not unseen[support].any()
    assert query.size
    assert held_out[split][query].all() if split in held_out else not unseen[query].any()
  assert np.all(drawn.query.mask.any(-1))


BAD_OPTIONS = {
  r'num_support=20 is more than half of the longest history, of 16': {'num_support': 20},
  r'num_support=13 leaves fewer than min_query=4 of the longest history, of 16': {
    'num_support': 13,
    'min_query': 4,
  },
  r'min_query must lie in 1\.\.8 \(num_query\), got 9': {'min_query': 9},
  r'num_support and num_query must be at least 1: 0, 8': {'num_support': 0},
  r'need 0 <= fold < num_folds and 2 <= num_folds, got 5 and 5': {'fold': 5},
  r'validation_share must lie in \(0, 1\), got 1.0': {'validation_share': 1.0},
  r"split 'validation' of 30 people is empty, and each needs one at least: give more": {
    'validation_share': 0.01
  },
  r"split 'test' of 30 people is empty": {'num_folds': 31, 'fold': 30},
  r'item_holdout=True needs features of the items': {'item_holdout': True},
}


@pytest.mark.parametrize('message', BAD_OPTIONS)
def test_bad_options_are_refused(message):
  options = {'num_support': 4, 'num_query': 8} | BAD_OPTIONS[message]
  with pytest.raises(ValueError, match=message):
    people.people(made_up(lengths=[16] * 30), **options)


@pytest.mark.parametrize(('least', 'expected'), [(None, 8), (4, 12), (8, 8)])
def test_a_support_is_cut_to_what_the_longest_history_leaves_where_that_is_asked(least, expected):
  options = {'num_query': 8, 'min_query': least, 'cut_support': True}
  for asked in (5, 20):
    made = people.people(made_up(lengths=[16] * 30), num_support=asked, **options)
    assert made.spec.num_support == min(asked, expected)
  few = people.people(made_up(lengths=[2] * 30), num_query=8, cut_support=True)
  assert few.spec.num_support == 1
  with pytest.raises(ValueError, match='at least 1: 0, 8'):
    people.people(made_up(lengths=[16] * 30), num_support=0, **options)


def test_the_test_keeps_items_of_its_own_however_many_validation_asks_for():
  histories = made_up(num_users=1, num_items=10, contexts=5, identity=False)
  assert list(people.hold_out_items(histories, 0.2, 0.9, seed=0)) == ['test']
  several = people.hold_out_items(histories, 0.4, 0.9, seed=0)
  assert [own.sum() for own in several.values()] == [2, 2]


def test_a_holdout_of_nothing_is_refused():
  with pytest.raises(ValueError, match=r'holds out 0 of 12 items; choose a share'):
    people.people(
      made_up(identity=False), num_support=4, item_holdout=True, item_holdout_share=0.01
    )


def test_what_is_shown_says_which_items_people_are_evaluated_on():
  plain = people.people(made_up(), num_support=4)
  assert plain.record['evaluated_on'] == 'unseen people, seen items'
  held_out = people.people(made_up(num_users=60, identity=False), num_support=4, item_holdout=True)
  assert held_out.record['evaluated_on'] == 'unseen people, unseen items'
  assert (plain.source, plain.simulation) == ('made up', None)


@pytest.mark.parametrize('split', SPLITS)
def test_items_give_the_comparisons_of_a_split(split):
  histories, population = plain()
  users = people.split_users(30, fold=0, num_folds=5, validation_share=0.2, seed=0)[split]
  choices = population.items.choices(population.arrays, split)
  for shown, stored in zip(choices, (histories.chosen, histories.rejected, histories.mask)):
    np.testing.assert_array_equal(shown, stored[users])


def test_items_can_be_shown_with_other_features():
  _, population = plain()
  assert population.items.features(population.arrays).shape == (300, 300)
  other = population.items.with_features(population.arrays, jnp.zeros((300, 2)))
  episode, _ = jax.jit(population.episode_of, static_argnums=2)(other, 0, 'test')
  assert episode.support.candidates.features.shape == (5, 2, 2)


def test_given_features_are_scaled_by_what_train_people_chose_among():
  histories = made_up(num_users=60, identity=False)
  years = histories._replace(features=1990 + 10 * histories.features)
  population = people.people(years, num_support=4, item_holdout=True)
  features = np.asarray(population.items.features(population.arrays))
  train = population.items.choices(population.arrays, 'train')
  items = np.unique([train.chosen[train.mask], train.rejected[train.mask]])
  assert len(items) < len(features)
  np.testing.assert_allclose(features[items].mean(0), 0, atol=1e-3)
  np.testing.assert_allclose(features[items].std(0), 1, atol=1e-3)
  mean, scale = population.scaling
  np.testing.assert_allclose(features * scale + mean, years.features, rtol=1e-5)
  one_hot = people.people(made_up(), num_support=4)
  np.testing.assert_array_equal(one_hot.arrays.features, made_up().features)


def test_items_that_only_float64_tells_apart_differ(tmp_path):
  numbers = np.arange(8)
  items = pd.DataFrame({
    'item_id': numbers, 'made_at': 1_700_000_001 + numbers, 'share': 0.1 + 1e-16 * numbers
  })  # fmt: skip
  items.to_csv(tmp_path / 'items.csv', index=False)
  pairs = [(user, chosen, 0) for user in range(20) for chosen in numbers[1:]]
  compared = pd.DataFrame(pairs, columns=['user_id', 'chosen', 'rejected'])
  compared.to_csv(tmp_path / 'comparisons.csv', index=False)
  histories = comparisons.load_comparisons(str(tmp_path))
  population = people.people(histories, num_support=2)
  features = np.asarray(population.items.features(population.arrays))
  np.testing.assert_allclose(features[:, 0], (numbers - 3.5) / numbers.std(), rtol=1e-5)
  np.testing.assert_allclose(features[:, 1], 0, atol=1e-12)  # rounding is no feature


@pytest.mark.parametrize('variable', ['METAPERS_JESTER', 'METAPERS_UKPCONVARG'])
def test_real_people_make_tasks(variable):
  path = os.environ.get(variable)
  if not path:
    pytest.skip(f'{variable} is not set to the folder of that data')
  histories = comparisons.load_comparisons(path, complete_raters_only='JESTER' in variable)
  population = people.people(histories)
  spec = population.spec
  assert spec.num_users + sum(spec.num_held_out.values()) == len(histories.mask)
  drawn = all_episodes(population, 'test')
  real = np.asarray(histories.mask.sum(1))
  assert np.all(drawn.support.mask.sum(1) <= np.minimum(20, real.max() // 2))
  assert np.all(drawn.query.mask.any(1))


def test_none_keeps_half_of_each_history_and_a_number_that_many():
  histories = made_up(lengths=[16] * 30, num_items=300)
  half, some = (
    all_episodes(people.people(histories, num_support=8, min_query=least), 'test')
    for least in (None, 3)
  )
  jax.tree.map(np.testing.assert_array_equal, half, some)
  most = all_episodes(people.people(histories, num_support=13, min_query=3), 'test')
  assert set(most.support.mask.sum(1).tolist()) == {13}
  assert set(most.query.mask.sum(1).tolist()) == {3}
  np.testing.assert_array_equal(items_of(most.support)[:, :8], items_of(half.support))


def test_people_of_whom_too_little_remains_are_left_out_and_counted(monkeypatch):
  said = []
  monkeypatch.setattr(logging, 'warning', lambda form, *values: said.append(form % values))
  lengths = [3, 4, 6, 9, 16] * 8
  histories = made_up(num_users=40, lengths=lengths, num_items=300)
  population = people.people(histories, num_support=10, min_query=4)
  assert said == ['16 people are left out: of them fewer than 4 comparisons remain to be '
                  'evaluated']  # fmt: skip
  assert population.record['num_too_few'] == 16
  kept = [population.items.user_ids(population.arrays, split) for split in SPLITS]
  assert sorted(np.concatenate(kept)) == [n for n, length in enumerate(lengths) if length > 4]
  for split in SPLITS:
    drawn = all_episodes(population, split)
    assert len(drawn.user) == population.spec._asdict()['num_held_out'].get(split, len(kept[0]))
    assert drawn.query.mask.sum(1).min() >= 4
    assert drawn.support.mask.sum(1).min() >= 1


def test_a_comparison_that_the_support_holds_too_does_not_remain():
  histories = made_up(lengths=[16] * 30, num_items=300)
  again = np.arange(30) % 2 == 0
  same = [np.where(again[:, None], of[:, :1], of) for of in (histories.chosen, histories.rejected)]
  population = people.people(
    histories._replace(chosen=same[0], rejected=same[1]), num_support=4, num_query=8, min_query=2
  )
  assert population.record['num_too_few'] == 15


def test_one_hot_ids_need_no_matrix():
  dense = made_up(num_items=300, lengths=[16] * 30)
  ids = dense._replace(features=np.zeros((300, 0), np.float32))
  both = [people.people(each, num_support=5, num_query=8) for each in (dense, ids)]
  assert both[0].spec == both[1].spec
  jax.tree.map(np.testing.assert_array_equal, *(all_episodes(each, 'test') for each in both))
  jax.tree.map(np.testing.assert_array_equal, *(each.scaling for each in both))


def test_many_one_hot_items_take_little_memory():
  many = made_up(num_items=60_000, num_users=2, lengths=[16] * 2, identity=False)
  many = many._replace(features=np.zeros((60_000, 0), np.float32), identity=True)
  many = many._replace(**{x: np.tile(getattr(many, x), (10, 1)) for x in ('chosen', 'rejected')})
  many = many._replace(mask=np.tile(many.mask, (10, 1)), user_ids=np.arange(20))
  population = people.people(many, num_support=2, num_query=4)
  held = sum(leaf.nbytes for leaf in jax.tree.leaves(population.arrays))
  assert held < 2**20  # a matrix of all has 14 GB
  episode, _ = jax.eval_shape(
    lambda: population.episode_of(population.arrays, jnp.asarray(0), 'test')
  )
  assert episode.query.candidates.features.shape == (4, 2, 60_000)
