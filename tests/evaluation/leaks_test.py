"""Leaks of simulated users, prompts and choices of models are found where they are planted."""

import functools

import jax
import numpy as np
import pytest
from small_store import small_table

from metapers.evaluation import leaks
from metapers.evaluation.leaks import (
  drawn_episodes,
  people_checks,
  prompt_checks,
  selection_checks,
  user_checks,
)
from metapers.evaluation.leaks.matching import Leak
from metapers.evaluation.leaks.selection_checks import Selection
from metapers.populations import np_btl, simulated_users, toy
from metapers.populations.reward_ensemble import reward_ensemble

NUM_USERS = 24


@functools.cache
def population(**options):
  defaults = {'num_support': 6, 'num_query': 6, 'num_slates': 3, 'num_held_out': NUM_USERS}
  return reward_ensemble(small_table(), **{**defaults, **options})


@functools.cache
def drawn():
  return drawn_episodes.draw(population(), NUM_USERS)


def arrays(**changes):
  return jax.device_get(population().arrays)._replace(**changes)


def kinds(changed=None, **parts):
  """Returns the kinds of leaks with arrays, or the episodes of a split, replaced."""
  found = leaks.of_simulated_users(changed or arrays(), {**drawn(), **parts})
  return {kind for kind, told in found.items() if told}


def replaced(split, **changes):
  """Replaces parts of the truth of a split's episodes, each as a function of the truth."""
  tasks, truth = drawn()[split]
  return {split: (tasks, truth._replace(**{k: make(truth) for k, make in changes.items()}))}


def test_a_sound_population_has_none():
  found = leaks.by_kind(population(), num_users=NUM_USERS)
  assert found == {'users': [], 'prompts': [], 'cues': [], 'selection': []}


def test_best_against_worst_on_scores_is_taste():
  options = {'pair_rule': 'extreme', 'concentration': 1.0, 'num_held_out': 1000}
  assert leaks.check(population(**options), num_users=1000) == []


@pytest.mark.parametrize('make', [toy.two_types, np_btl.np_btl])
def test_populations_without_weights_have_none(make):
  assert leaks.check(make(), num_users=NUM_USERS) == []


def test_require_none_lists_what_leaks():
  leaks.require_none([])
  with pytest.raises(ValueError, match='leak of users: told; leak of cues: too'):
    leaks.require_none([Leak('users', 'told'), Leak('cues', 'too')])


def weights(concentration, num_models=10, seeds=(0, 1)):
  return {
    name: simulated_users.draw_weights(np.random.default_rng(seed), size, concentration, num_models)
    for name, size, seed in (('train', 2**15, seeds[0]), ('test', 2000, seeds[1]))
  }


@pytest.mark.parametrize('num_models', [3, 10])
@pytest.mark.parametrize('concentration', [0.001, 0.01, 0.1, 1.0, 100.0])
def test_users_drawn_apart_are_not_copies(concentration, num_models):
  assert user_checks.shared_users(weights(concentration, num_models)) == []


def test_corners_drawn_apart_are_not_copies():
  rng = np.random.default_rng(0)
  corners = {name: np.eye(10)[rng.integers(10, size=500)] for name in ('train', 'test')}
  assert user_checks.shared_users(corners) == []


@pytest.mark.parametrize('concentration', [0.01, 1.0])
def test_one_copied_user_is_found(concentration):
  users = weights(concentration)
  users['test'][7] = users['train'][[np.argmax(user_checks.is_telling(users['train']))]]
  [leak] = user_checks.shared_users(users)
  assert leak.kind == 'users'
  assert leak.told.startswith('1 of 2000 test users')


def test_copies_are_found_after_storing_and_normalising_again():
  users = weights(0.05)
  again = users['train'][5000:6000] * np.float32(3.1)
  users['test'] = (again / again.sum(-1, keepdims=True)).astype(np.float32)
  told = user_checks.shared_users(users)[0].told
  assert int(told.split()[0]) > 950


def test_one_seed_for_two_splits_is_found_even_among_corners():
  users = np.eye(10)[np.random.default_rng(0).integers(10, size=500)]
  [leak] = user_checks.shared_users({'train': users, 'test': users[:100]})
  assert leak.told.startswith('the first 100 test users are the first train users, in their order')


def test_a_copied_user_is_found_in_a_population():
  users = arrays().users
  copied = users['test'].weights.copy()
  copied[3] = users['train'].weights[100]
  assert 'users' in kinds(arrays(users={**users, 'test': users['test']._replace(weights=copied)}))


def test_a_prompt_of_two_splits_is_found():
  prompts = arrays().prompts
  both = np.append(prompts['train'], prompts['test'][0])
  assert kinds(arrays(prompts={**prompts, 'train': both})) == {'prompts'}


def test_one_slate_under_two_ids_is_found_in_any_order():
  prompts, rewards = arrays().prompts, arrays().rewards.copy()
  rewards[prompts['test'][4]] = rewards[prompts['train'][9]][::-1]
  assert kinds(arrays(rewards=rewards)) == {'prompts'}


def test_one_text_under_two_ids_is_found():
  assert prompt_checks.repeated_texts({'train': ['Why?'], 'test': ['Why not?']}) == []
  [leak] = prompt_checks.repeated_texts({'train': ['Why?', 'How?'], 'test': [' why?\n', 'Who?']})
  assert leak.told.startswith('1 of 2 test prompts have the text of a train prompt')


PLANTED = {
  'own: comparisons of 24 test users are on a prompt of their support': (
    'test', {'support_prompts': lambda truth: truth.query_prompts}
  ),
  'own: slates of 24 validation users are on a prompt of their support': (
    'validation', {'slate_prompts': lambda truth: truth.support_prompts[:, :3]}
  ),
  'judged: prompts on which test users are judged are not test prompts': (
    'test', {'query_prompts': lambda truth: drawn()['train'][1].query_prompts}
  ),
  'history: comparisons in histories of train users are on test prompts': (
    'train', {'support_prompts': lambda truth: drawn()['test'][1].query_prompts}
  ),
  'history: comparisons in histories of test users are on validation prompts': (
    'test', {'support_prompts': lambda truth: drawn()['validation'][1].query_prompts}
  ),
}  # fmt: skip


@pytest.mark.parametrize('what', PLANTED)
def test_prompts_out_of_place_are_found(what):
  split, changes = PLANTED[what]
  found = leaks.of_simulated_users(arrays(), {**drawn(), **replaced(split, **changes)})
  assert any(what.split(': ')[1] in leak.told for leak in found['prompts'])


def test_a_history_of_other_prompts_of_the_own_split_is_none():
  other = {'support_prompts': lambda truth: (truth.query_prompts + 1 - 90) % 30 + 90}  # test: 90...
  [(tasks, truth)] = replaced('test', **other).values()
  assert np.isin(truth.support_prompts, arrays().prompts['test']).all()
  options = {'prompts': arrays().prompts, 'own': 'test'}
  assert prompt_checks.misplaced('test', tasks, truth, **options) == []


def test_masked_comparisons_show_no_prompt():
  tasks, truth = drawn()['test']
  support = tasks.support._replace(mask=np.zeros_like(tasks.support.mask))
  truth = truth._replace(support_prompts=truth.query_prompts)
  assert 'prompts' not in kinds(test=(tasks._replace(support=support), truth))


def test_judging_what_was_chosen_on_is_found():
  assert 'selection' in kinds(validation=drawn()['test'])


@pytest.mark.parametrize(
  ('changes', 'told'),
  [
    ({'people': ['a', ' c']}, "1 people, such as 'c'"),
    ({'weights': np.array([[0.2, 0.3, 0.5]])}, '1 of 2 judged users'),
    ({'prompts': np.array([1, 6])}, '1 of 2 judged prompts'),
  ],
)
def test_each_part_of_a_selection_is_compared(changes, told):
  judged = Selection(['b', 'c'], np.array([[0.2, 0.3, 0.5], [0.1, 0.8, 0.1]]), np.array([5, 6]))
  apart = Selection(['a'], np.array([[0.3, 0.3, 0.4]]), np.array([1, 2]))
  assert selection_checks.selection(apart, judged) == []
  [leak] = selection_checks.selection(apart._replace(**changes), judged)
  assert leak.kind == 'selection'
  assert told in leak.told


def test_a_judged_comparison_in_the_own_support_is_found_by_its_features():
  tasks, _ = drawn()['test']
  flipped = jax.tree.map(lambda x: x[:, :, ::-1], tasks.query.candidates)
  again = tasks._replace(support=tasks.query._replace(candidates=flipped))
  assert people_checks.repeated_pairs('test', *drawn_episodes.offered(tasks)) == []
  [leak] = people_checks.repeated_pairs('test', *drawn_episodes.offered(again))
  assert leak.told.startswith(f'144 judged comparisons of {NUM_USERS} test users')
