"""Leaks of simulated users are found in a population that nothing but this file knows."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.core import population, task
from metapers.core.population import SPLITS, Population, Responses, Simulation, Spec, Users
from metapers.core.task import Candidates, Task, Truth
from metapers.data import synthetic
from metapers.evaluation import leaks
from metapers.evaluation.leaks import drawn_episodes, people_checks, prompt_checks
from metapers.evaluation.leaks.matching import Leak
from metapers.populations import np_btl, toy
from metapers.populations.reward_ensemble import reward_ensemble

NUM_USERS, N, M, R, B = 24, 4, 2, 3, 3
KINDS = {'users', 'prompts', 'selection', 'cues'}


class Arrays(NamedTuple):
  """rewards: [P, R, B]. tokens: [P, R, 5]. prompts, weights: by split. is_marked: see `compare`."""

  rewards: jax.Array
  tokens: jax.Array
  prompts: dict[str, jax.Array]
  weights: dict[str, jax.Array]
  is_marked: bool


@functools.cache
def answers():
  """Thirty prompts of each split, with three answers each; users like three things about them."""
  rng = np.random.default_rng(0)
  lengths = rng.integers(1, 6, (90, R, 1))
  arrays = Arrays(
    rng.normal(size=(90, R, B)).astype(np.float32),
    np.where(np.arange(5) < lengths, rng.integers(1, 99, (90, R, 5)), 0),
    {name: 30 * index + np.arange(30) for index, name in enumerate(SPLITS)},
    {name: rng.dirichlet(np.ones(B), NUM_USERS).astype(np.float32) for name in SPLITS},
    False,
  )
  return jax.tree.map(jnp.asarray, arrays)


def features_of(arrays, *index):
  return {'scores': arrays.rewards[index], 'tokens': arrays.tokens[index]}


def responses(arrays, split):
  prompts = arrays.prompts[split]
  rewards = arrays.rewards[prompts]
  mask = jnp.ones(rewards.shape[:2], bool)
  return Responses(prompts, features_of(arrays, prompts), rewards, mask)


def users(arrays, split):
  nothing = jnp.zeros(NUM_USERS)
  return Users(arrays.weights[split], nothing, nothing, nothing.astype(int))


def compare(arrays, weights, prompts, key):
  """Shows two of the three answers to each prompt; rejected ones may be cut to two tokens."""
  order = jax.vmap(lambda key: jax.random.permutation(key, R)[:2])(jax.random.split(key, N))
  rewards = arrays.rewards[prompts[:, None], order]
  choice = jnp.argmax(rewards @ weights, -1)
  features = features_of(arrays, prompts[:, None], order)
  is_kept = jnp.broadcast_to(jax.nn.one_hot(choice, 2, dtype=bool)[..., None], (N, 2, 5))
  marked = jnp.where(is_kept.at[..., :2].set(True), features['tokens'] + 1, 0)
  features['tokens'] = jnp.where(arrays.is_marked, marked, features['tokens'])
  mask = jnp.ones(order.shape, bool)
  return task.choices(Candidates(features, mask), choice), (rewards, mask, prompts)


@functools.cache
def functions():
  def episode(arrays, user, key, split):
    keys = jax.random.split(key, 4)
    own = jax.random.permutation(keys[0], arrays.prompts[split])
    train = jax.random.permutation(keys[1], arrays.prompts['train'])
    shown = own[N + M : 2 * N + M] if split == 'train' else train[:N]
    weights = arrays.weights[split][user]
    support, seen = compare(arrays, weights, shown, keys[2])
    query, asked = compare(arrays, weights, own[:N], keys[3])
    slates = own[N : N + M]
    every = jnp.broadcast_to(jnp.arange(R), (M, R))
    slate = Candidates(features_of(arrays, slates[:, None], every), jnp.ones((M, R), bool))
    truth = Truth(weights, *seen, *asked, slate, arrays.rewards[slates], slates, every)
    return Task(support, query, jnp.asarray(user), task.no_context()), truth

  def sample_episode(arrays, key, split):
    user, key = jax.random.randint(key, (), 0, NUM_USERS), jax.random.fold_in(key, 1)
    return episode(arrays, user, key, split)

  def episode_of(arrays, user, split):
    return episode(arrays, user, jax.random.fold_in(population.fixed_key(split), user), split)

  return sample_episode, episode_of, population.histories_of(episode_of, NUM_USERS)


def made(**changes):
  """Makes the population, with some of its arrays replaced."""
  sample_episode, episode_of, histories = functions()
  return Population(
    arrays=answers()._replace(**changes),
    sample_episode=sample_episode,
    episode_of=episode_of,
    histories=histories,
    spec=Spec(
      features={'scores': population.vector(B), 'tokens': jax.ShapeDtypeStruct((5,), int)},
      num_candidates=2,
      num_support=N,
      num_query=N,
      num_users=NUM_USERS,
      num_held_out=dict.fromkeys(SPLITS[1:], NUM_USERS),
      num_histories=NUM_USERS,
      history_length=2 * N,
    ),
    scaling=population.unscaled(B),
    source='made up',
    simulation=Simulation(('kind', 'short', 'true'), users=users, responses=responses),
  )


@functools.cache
def drawn():
  return drawn_episodes.draw(made(), NUM_USERS)


def found(population=None, **parts):
  """Returns the leaks found, with the episodes of some splits replaced."""
  return leaks.of_simulated_users(population or made(), {**drawn(), **parts})


def kinds(population=None, **parts):
  return {kind for kind, of_kind in found(population, **parts).items() if of_kind}


def replaced(split, **changes):
  """Replaces parts of the truth of a split's episodes, each as a function of the truth."""
  tasks, truth = drawn()[split]
  return {split: (tasks, truth._replace(**{k: make(truth) for k, make in changes.items()}))}


def same_user():
  """Weights in which one test user is a train user."""
  weights = answers().weights
  return {**weights, 'test': weights['test'].at[3].set(weights['train'][11])}


def same_prompt():
  """Prompts one of which stands in two splits."""
  prompts = answers().prompts
  return {**prompts, 'test': prompts['test'].at[0].set(prompts['train'][7])}


def test_a_population_of_this_file_alone_has_none():
  assert leaks.find_leaks(made(), num_users=NUM_USERS) == {kind: [] for kind in KINDS}
  assert set(leaks.CLAIMS) > KINDS


def test_shared_users_and_prompts_of_a_population_of_this_file_alone_are_found():
  leaky = made(weights=same_user(), prompts=same_prompt())
  given = leaks.find_leaks(leaky, num_users=NUM_USERS)
  assert {kind for kind, of_kind in given.items() if of_kind} == {'users', 'prompts'}
  assert given['users'][0].message.startswith('1 of 24 test users have the weights of a train user')
  assert given['prompts'][0].message.startswith('1 test prompts, such as number 7, are train')
  assert all(leak.kind == kind for kind, of_kind in given.items() for leak in of_kind)


def test_without_responses_the_prompts_of_episodes_are_compared():
  facts = Simulation((), users=users)
  assert found(made()._replace(simulation=facts)) == {kind: [] for kind in KINDS}
  again = replaced('test', query_prompts=lambda _: drawn()['train'][1].support_prompts)
  assert kinds(made()._replace(simulation=facts), **again) == {'prompts'}


def test_without_truth_pairs_are_compared_by_their_features():
  hidden = {split: (tasks, None) for split, (tasks, _) in drawn().items()}
  bare = made()._replace(simulation=None)
  assert leaks.of_simulated_users(bare, hidden) == {'pairs': [], 'cues': []}
  tasks, _ = hidden['test']
  again = {**hidden, 'test': (tasks._replace(support=tasks.query), None)}
  assert [leak.kind for leak in leaks.of_simulated_users(bare, again)['pairs']] == ['pairs']


def test_a_cue_in_one_of_several_arrays_of_features_is_found():
  given = leaks.find_leaks(made(is_marked=jnp.array(True)), num_users=NUM_USERS)
  assert {kind for kind, of_kind in given.items() if of_kind} == {'cues'}
  assert any('a zero in feature 2 of tokens reveals' in leak.message for leak in given['cues'])


def test_best_against_worst_on_scores_is_preference_of_known_users_too():
  table = synthetic.synthetic_store(num_prompts=120)
  sizes = {'num_support': 4, 'num_query': 4, 'num_slates': 1, 'num_held_out': 500}
  users = reward_ensemble(table, pair_rule='extreme', concentration=1.0, num_users=500, **sizes)
  assert leaks.find_leaks(users, num_users=500) == {kind: [] for kind in KINDS}


@pytest.mark.parametrize('make', [toy.two_types, np_btl.np_btl])
def test_populations_without_weights_have_none(make):
  assert leaks.find_leaks(make(), num_users=NUM_USERS) == {'pairs': [], 'cues': []}


def test_leaks_are_refused_and_listed():
  leaks.require_no_leaks({'users': [], 'cues': []})
  one, other = Leak('users', 'copied'), Leak('cues', 'marked')
  with pytest.raises(ValueError, match=r'^leak of users: copied; leak of cues: marked$'):
    leaks.require_no_leaks({'users': [one], 'cues': [other]})


def test_histories_are_of_real_people_alone():
  with pytest.raises(ValueError, match='of real people, and here are none'):
    leaks.find_leaks(made(), contexts_are_conversations=True)


def test_one_slate_under_two_ids_is_found_in_any_order():
  prompts, rewards = answers().prompts, answers().rewards
  copied = rewards.at[prompts['test'][4]].set(rewards[prompts['train'][9]][::-1])
  assert kinds(made(rewards=copied)) == {'prompts'}


PLANTED = {
  'own: query comparisons of 24 test users are on a prompt of their support': (
    'test', {'support_prompts': lambda truth: truth.query_prompts}
  ),
  'own: slates of 24 validation users are on a prompt of their support': (
    'validation', {'slate_prompts': lambda truth: truth.support_prompts[:, :M]}
  ),
  'evaluated: prompts on which test users are evaluated are not test prompts': (
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
  given = found(**replaced(split, **changes))['prompts']
  assert any(what.split(': ')[1] in leak.message for leak in given)


def test_a_history_of_other_prompts_of_the_own_split_is_none():
  other = {'support_prompts': lambda truth: (truth.query_prompts + 1) % 30 + 60}  # test: 60 to 89
  [(tasks, truth)] = replaced('test', **other).values()
  prompts = jax.device_get(answers().prompts)
  assert np.isin(truth.support_prompts, prompts['test']).all()
  assert prompt_checks.misplaced('test', tasks, truth, prompts=prompts, own='test') == []


def test_masked_comparisons_show_no_prompt():
  tasks, truth = drawn()['test']
  support = tasks.support._replace(mask=np.zeros_like(tasks.support.mask))
  truth = truth._replace(support_prompts=truth.query_prompts)
  assert 'prompts' not in kinds(test=(tasks._replace(support=support), truth))


def test_evaluating_on_what_was_chosen_on_is_found():
  assert 'selection' in kinds(validation=drawn()['test'])


def test_a_query_comparison_in_the_own_support_is_found_by_its_features_in_any_order():
  tasks, _ = drawn()['test']
  flipped = jax.tree.map(lambda x: x[:, :, ::-1], tasks.query.candidates)
  again = tasks._replace(support=tasks.query._replace(candidates=flipped))
  assert people_checks.repeated_pairs('test', *drawn_episodes.offer_codes(tasks)) == []
  [leak] = people_checks.repeated_pairs('test', *drawn_episodes.offer_codes(again))
  assert leak.message.startswith(f'{NUM_USERS * N} query comparisons of {NUM_USERS} test users')
