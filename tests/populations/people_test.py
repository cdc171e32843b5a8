"""Episodes of real people: nothing leaks between people, between parts, or between items."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypothesis import given, settings
from hypothesis import strategies as st

from metapers.core import task
from metapers.core.population import SPLITS
from metapers.core.tables import Histories
from metapers.data import comparisons
from metapers.populations import people, people_episodes


def made_up(*, num_users=30, num_items=12, longest=16, contexts=1, identity=True, lengths=None):
  """Random histories; chosen items have the higher number, so that features tell the choice."""
  rng = np.random.default_rng(0)
  context = np.arange(num_items) % contexts
  items = rng.permuted(np.tile(np.arange(num_items), (num_users, longest, 1)), axis=-1)
  same = context[items] == context[items[..., :1]]
  second = np.take_along_axis(items, np.argsort(~same, -1, kind='stable')[..., 1:2], -1)
  pair = np.concatenate([items[..., :1], second], -1)
  if lengths is None:
    lengths = rng.integers(2, longest + 1, num_users)
  features = np.eye(num_items) if identity else np.arange(1, num_items + 1)[:, None]
  return Histories(
    features=features.astype(np.float32),
    item_ids=np.arange(num_items),
    user_ids=np.arange(num_users),
    chosen=pair.max(-1).astype(np.int32),
    rejected=pair.min(-1).astype(np.int32),
    mask=np.arange(longest) < np.asarray(lengths)[:, None],
    context=context,
    identity=identity,
    num_dropped=0,
    source='made up',
    content_hash='',
  )


def all_episodes(population, split):
  size = len(population.arrays.people[split].mask)

  @jax.jit
  def episodes(arrays):
    return jax.vmap(lambda user: population.episode_of(arrays, user, split)[0])(jnp.arange(size))

  return episodes(population.arrays)


def items_of(choices):
  """Returns [..., N, 2] items, by one-hot or by number features; -1 where masked."""
  features = choices.candidates.features
  items = features.argmax(-1) if features.shape[-1] > 1 else features[..., 0] - 1
  return np.where(choices.mask[..., None], items, -1).astype(int)


@pytest.mark.parametrize('num_folds', [2, 5])
def test_splits_are_disjoint_and_cover_and_folds_test_everyone_once(num_folds):
  tested = []
  for fold in range(num_folds):
    splits = people.split_users(57, fold=fold, num_folds=num_folds, validation_share=0.2, seed=0)
    assert sorted(np.concatenate(list(splits.values()))) == list(range(57))
    tested.extend(splits['test'])
  assert sorted(tested) == list(range(57))


def test_support_and_query_share_no_pair():
  histories = made_up(num_items=5)  # ten pairs, so that people repeat themselves
  population = people.people(histories, num_support=6, num_query=10)
  for split in SPLITS:
    seen = all_episodes(population, split)
    for support, query in zip(items_of(seen.support), items_of(seen.query)):
      shown = {frozenset(pair) for pair in support.tolist() if pair[0] >= 0}
      assert not shown & {frozenset(pair) for pair in query.tolist() if pair[0] >= 0}
    assert seen.query.mask.any()


def test_choices_are_the_persons_own_and_position_does_not_tell_them():
  population = people.people(made_up(num_users=200), num_support=6, num_query=10)
  seen = all_episodes(population, 'train')
  for part in (seen.support, seen.query):
    items, real = items_of(part), np.asarray(part.mask)
    np.testing.assert_array_equal(items.argmax(-1)[real], np.asarray(part.choice)[real])
    share = float(part.choice[real].mean())
    assert abs(share - 0.5) < 4 * 0.5 / np.sqrt(real.sum())


@settings(deadline=None, max_examples=40)
@given(
  length=st.integers(0, 9),
  num_support=st.integers(1, 4),
  num_query=st.integers(1, 12),
  seed=st.integers(0, 5),
)
def test_parts_fit_a_person_of_any_length(length, num_support, num_query, seed):
  chosen = jnp.arange(9)[None]
  mask = chosen < length
  person = people_episodes.People(chosen, chosen + 9, mask, jnp.zeros_like(mask))
  arrays = people_episodes.Arrays(jnp.eye(18), {'test': person})
  layout = people_episodes.Layout(num_support, num_query, num_users=3, item_holdout=False)
  key = jax.random.key(seed)
  priority = jax.random.uniform(key, (9,))
  seen = people_episodes.episode(arrays, jnp.array(0), 'test', layout, priority=priority, key=key)
  size = min(num_support, length // 2)
  assert seen.support.mask.sum() == size
  assert seen.query.mask.sum() == min(num_query, length - size)
  task.validate(seen.support)
  task.validate(seen.query)
  used = np.concatenate([items_of(seen.support).max(-1), items_of(seen.query).max(-1)])
  used = used[used >= 0]
  assert len(set(used.tolist())) == used.size
  assert np.all(used < 9 + length)
  hidden = ~np.concatenate([seen.support.mask, seen.query.mask])
  shown = np.concatenate([seen.support.candidates.features, seen.query.candidates.features])
  assert np.all(shown[hidden] == 0)


def test_fixed_episodes_follow_the_persons_order():
  histories = made_up(lengths=[16] * 30, num_items=60)
  population = people.people(histories, num_support=5, num_query=4)
  splits = people.split_users(30, fold=0, num_folds=5, validation_share=0.2, seed=0)
  for split, users in splits.items():
    seen = all_episodes(population, split)
    np.testing.assert_array_equal(items_of(seen.support).max(-1), histories.chosen[users, :5])
    np.testing.assert_array_equal(items_of(seen.query).max(-1), histories.chosen[users, 5:9])


def test_the_same_user_gives_the_same_bits_alone_or_in_a_batch():
  population = people.people(made_up(), num_support=5, num_query=4)
  batch = all_episodes(population, 'test')
  alone, truth = population.episode_of(population.arrays, jnp.array(2), 'test')
  assert truth is None
  for one, other in zip(jax.tree.leaves(alone), jax.tree.leaves(task.take(batch, 2))):
    np.testing.assert_array_equal(one, other)


def test_drawn_episodes_vary_and_come_from_their_split():
  histories = made_up(num_users=20, num_items=40)
  population = people.people(histories, num_support=4, num_query=4)
  splits = people.split_users(20, fold=0, num_folds=5, validation_share=0.2, seed=0)
  keys = jax.random.split(jax.random.key(0), 64)
  for split, users in splits.items():
    draw = jax.jit(
      jax.vmap(lambda arrays, key, split=split: population.sample_episode(arrays, key, split)[0],
               (None, 0))
    )  # fmt: skip
    seen = draw(population.arrays, keys)
    own = {(pair.max(), pair.min()) for user in users for pair in history_of(histories, user)}
    items = items_of(seen.query)[np.asarray(seen.query.mask)]
    assert {(pair.max(), pair.min()) for pair in items} <= own
    assert np.unique(items_of(seen.support), axis=0).shape[0] > users.size
    known = np.unique(seen.user)
    assert np.array_equal(known, np.arange(users.size) if split == 'train' else [13])


def history_of(histories, user):
  real = histories.mask[user]
  return np.stack([histories.chosen[user, real], histories.rejected[user, real]], -1)


def test_known_users_are_numbered_as_in_histories():
  histories = made_up(num_items=40)
  population = people.people(histories, num_support=4, num_query=12)
  seen = all_episodes(population, 'train')
  np.testing.assert_array_equal(seen.user, np.arange(population.spec.num_users))
  known = jax.jit(population.histories)(population.arrays)
  assert known.candidates.features.shape == (population.spec.num_users, 16, 2, 40)
  np.testing.assert_array_equal(
    known.mask.sum(-1), seen.support.mask.sum(-1) + seen.query.mask.sum(-1)
  )
  np.testing.assert_array_equal(items_of(known)[:, :4], items_of(seen.support))


@pytest.mark.parametrize('contexts', [1, 6])
def test_held_out_items_are_never_trained_on_and_alone_are_judged(contexts):
  histories = made_up(num_users=80, num_items=18, contexts=contexts, identity=False)
  population = people.people(
    histories, num_support=6, num_query=10, item_holdout=True, item_holdout_share=0.34
  )
  unseen = people.hold_out_items(histories, 0.34, seed=0)
  if contexts > 1:
    assert all(np.unique(unseen[histories.context == c]).size == 1 for c in range(contexts))
  for split in SPLITS:
    seen = all_episodes(population, split)
    support, query = (items_of(part)[np.asarray(part.mask)] for part in (seen.support, seen.query))
    assert support.size
    assert not unseen[support].any()
    assert np.all(unseen[query] == (split != 'train'))
    assert np.all(seen.query.mask.any(-1)) or split == 'train'
  assert not unseen[items_of(jax.jit(population.histories)(population.arrays))].any()


BAD_OPTIONS = {
  r'num_support=20 is more than half of the longest history, of 16': {'num_support': 20},
  r'num_support and num_query must be at least 1: 0, 8': {'num_support': 0},
  r'need 0 <= fold < num_folds and 2 <= num_folds, got 5 and 5': {'fold': 5},
  r'validation_share must lie in \(0, 1\), got 1.0': {'validation_share': 1.0},
  r"split 'validation' of 30 people is empty": {'validation_share': 0.01},
  r"split 'test' of 30 people is empty": {'num_folds': 31, 'fold': 30},
  r'item_holdout=True needs features of the items': {'item_holdout': True},
}


@pytest.mark.parametrize('message', BAD_OPTIONS)
def test_bad_options_are_refused(message):
  options = {'num_support': 4, 'num_query': 8} | BAD_OPTIONS[message]
  with pytest.raises(ValueError, match=message):
    people.people(made_up(lengths=[16] * 30), **options)


def test_a_holdout_of_nothing_is_refused():
  with pytest.raises(ValueError, match=r'holds out 0 of 12 items; choose a share'):
    people.people(
      made_up(identity=False), num_support=4, item_holdout=True, item_holdout_share=0.01
    )


def test_the_record_says_which_items_are_judged():
  plain = people.people(made_up(), num_support=4)
  assert plain.record['judged_on'] == 'unseen people, seen items'
  held_out = people.people(made_up(identity=False), num_support=4, item_holdout=True)
  assert held_out.record['judged_on'] == 'unseen people, unseen items'


@pytest.mark.parametrize('variable', ['METAPERS_JESTER', 'METAPERS_UKPCONVARG'])
def test_real_people_make_tasks(variable):
  path = os.environ.get(variable)
  if not path:
    pytest.skip(f'{variable} is not set to the folder of that data')
  histories = comparisons.load_comparisons(path, complete_raters_only='JESTER' in variable)
  population = people.people(histories)
  spec = population.spec
  assert spec.num_users + sum(spec.num_held_out.values()) == len(histories.mask)
  seen = all_episodes(population, 'test')
  real = np.asarray(histories.mask.sum(1))
  assert np.all(seen.support.mask.sum(1) <= np.minimum(20, real.max() // 2))
  assert np.all(seen.query.mask.any(1))
