import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers import learners
from metapers.core import meta_learner, population, task
from metapers.core.population import Scaling
from metapers.core.task import Candidates
from metapers.evaluation import acquisition
from metapers.io import leaves
from metapers.serving import exports, personalizer
from metapers.serving import questions as serving
from metapers.serving.personalizer import WITH_POSTERIOR, Comparisons, Personalizer, pairs

D, CAPACITY = 4, 8


def export(name, **changes):
  known = inspect.signature(learners.factory(name)).parameters
  sizes = {'num_features': D, 'num_users': 3, 'num_histories': 3}
  kwargs = {size: number for size, number in sizes.items() if size in known}
  params = learners.make(name, **kwargs).init(jax.random.key(0))
  if 'bank' in params:  # as after training: without known users it predicts as `pooled`
    params['bank'] = {
      'heads': jax.random.normal(jax.random.key(1), (3, D)),
      'is_used': jax.numpy.ones(3),
    }
  scaling = population.unscaled(D)
  return exports.Export(name, kwargs, leaves.named(params), 3, scaling)._replace(**changes)


@functools.cache
def served(name):
  return Personalizer(export(name), capacity=CAPACITY)


def draw(*size, seed=0):
  return np.random.default_rng(seed).normal(size=(*size, D)).astype(np.float32)


def same(first, second):
  jax.tree.map(np.testing.assert_array_equal, first, second)


def close(first, second):
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), first, second)


def all_finite(tree):
  return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


def test_adapting_is_that_of_the_learner():
  model, learner = served('bayes_head'), learners.make('bayes_head', num_features=D)
  params = learner.init(jax.random.key(0))
  shown, queried = draw(3, 2).astype(np.float16), draw(5, 2, seed=1)
  real = jnp.ones((3, 2), bool)
  support = task.choices(Candidates(jnp.float32(shown), real), jnp.array([1, 0, 1]), real[:, 0])
  state = learner.adapt(params, support, jnp.zeros(0), jax.random.key(0))
  pool = Candidates(jnp.asarray(queried), jnp.ones((5, 2), bool))
  profile = model.adapt(Comparisons(shown, np.array([1, 0, 1])))
  close(profile.user_state, state)
  close(model.score(profile, queried), learner.score(params, state, pool))
  chances = model.probability(profile, queried[:, 0], queried[:, 1])
  close(chances, jnp.exp(learner.predict(params, state, pool))[:, 0])
  utilities = learner.sample(params, state, pool)
  close(model.uncertainty(profile, queried[:, 0], queried[:, 1]),
        jnp.std(jax.nn.softmax(utilities)[..., 0], 0))  # fmt: skip
  assert model.ask(profile, queried) == jnp.argmax(
    acquisition.mutual_information(jax.nn.log_softmax(utilities))
  )
  assert model.best_of(profile, queried[:, 0]) == jnp.argmax(
    learner.score(params, state, pool)[:, 0]
  )


def test_after_any_clicks_a_profile_is_that_of_the_comparisons_kept():
  model, rng = served('latent_np'), np.random.default_rng(0)
  shown = draw(20, 2)
  for _ in range(10):
    profile, kept = model.adapt(), []
    for click in rng.permutation(20)[:12].tolist():
      profile = model.update(profile, pairs(*shown[click], ids=click))
      kept = [*kept, click][-CAPACITY:]
      if rng.random() < 0.4:
        gone = kept.pop(rng.integers(len(kept)))
        profile = model.forget(profile, gone)
    ids = np.array(kept, np.int64)
    same(profile, model.adapt(pairs(shown[ids, 0], shown[ids, 1], ids=ids)))


def test_forgetting_in_a_batch_leaves_nothing_either():
  model, shown = served('bayes_head'), draw(3, 5, 2)
  users = model.adapt(pairs(shown[:, :, 0], shown[:, :, 1]))
  fewer = model.forget(users, np.array([4, 4, 4]))
  same(fewer, model.adapt(pairs(shown[:, :4, 0], shown[:, :4, 1])))


def test_a_million_are_served_as_one_is(monkeypatch):
  monkeypatch.setattr(serving, 'USERS_PER_CALL', 4)
  model, shown, queried = served('bayes_head'), draw(11, 5, 2), draw(11, 6, 2, seed=1)
  mask = np.random.default_rng(0).random((11, 5)) < 0.7
  users = model.adapt(pairs(shown[:, :, 0], shown[:, :, 1], mask=mask))
  answers = (
    model.score(users, queried),
    model.probability(users, queried[:, :, 0], queried[:, :, 1]),
    model.best_of(users, queried[:, :, 0]),
    model.ask(users, queried),
  )
  for user in range(11):
    alone = model.adapt(pairs(shown[user][mask[user], 0], shown[user][mask[user], 1]))
    close(jax.tree.map(lambda x, user=user: x[user], users.user_state), alone.user_state)
    close(jax.tree.map(lambda x, user=user: x[user], answers), (
      model.score(alone, queried[user]),
      model.probability(alone, queried[user, :, 0], queried[user, :, 1]),
      model.best_of(alone, queried[user, :, 0]),
      model.ask(alone, queried[user]),
    ))  # fmt: skip


def test_raw_features_are_scaled_inside():
  scaling = Scaling(np.float32([1e4, -3, 0.5, 7]), np.float32([100, 0.5, 1, 3]))
  raw = Personalizer(export('bayes_head', scaling=scaling))
  shown, queried = draw(3, 2), draw(5, seed=1)
  unscaled = shown * scaling.scale + scaling.mean
  profile = raw.adapt(pairs(unscaled[:, 0], unscaled[:, 1]))
  found = raw.score(profile, queried * scaling.scale + scaling.mean)
  model = served('bayes_head')
  expected = model.score(model.adapt(pairs(shown[:, 0], shown[:, 1])), queried)
  np.testing.assert_allclose(found, expected, atol=0.02)  # what is kept is rounded to float16
  np.testing.assert_allclose(raw.comparisons(profile).features[:3, :2], unscaled, rtol=2e-3)


def test_another_model_adapts_to_what_a_profile_keeps():
  old, new = served('bayes_head'), served('cnp')
  profile = old.adapt(pairs(*draw(2, 3)))
  same(new.adapt(old.comparisons(profile)).history, profile.history)


@pytest.mark.parametrize('name', learners.LEARNERS)
def test_contradictions_and_repetitions_stay_finite_and_alone(name):
  model, (a, b) = served(name), 3 * draw(2)
  usual = 3 * draw(2, 1000)
  usual[:, CAPACITY:] = 0
  contradictory = np.stack([np.tile([a, b], (500, 1)), np.tile([b, a], (500, 1))])
  repeated = np.broadcast_to(np.stack([a, b])[:, None], (2, 1000, D))
  chosen, rejected = np.stack([contradictory, repeated, usual], 1)
  mask = np.ones((3, 1000), bool)
  mask[2, CAPACITY:] = False
  users = model.adapt(pairs(chosen, rejected, mask=mask))
  pair = np.broadcast_to(np.stack([a, b])[:, None, None], (2, 3, 1, D))
  chance = model.probability(users, *pair)[:, 0]
  assert all_finite((users.user_state, chance))
  assert np.all((chance >= 0) & (chance <= 1))
  assert model.best_of(users, 3 * draw(3, 5)).shape == (3,)
  alone = model.adapt(pairs(usual[0, :CAPACITY], usual[1, :CAPACITY]))
  np.testing.assert_allclose(chance[2], model.probability(alone, a, b), atol=1e-4)


def test_evidence_counts_and_narrows():
  model, (a, b) = served('bayes_head'), draw(2)
  new = model.adapt()
  once, often = (model.adapt(pairs(*np.stack([[a] * n, [b] * n]))) for n in (1, 8))
  chances = [model.probability(profile, a, b) for profile in (new, once, often)]
  doubts = [model.uncertainty(profile, a, b) for profile in (new, once, often)]
  assert sorted(chances) == chances
  assert sorted(doubts, reverse=True) == doubts
  both = model.adapt(pairs(np.stack([a, b] * 4), np.stack([b, a] * 4)))
  assert abs(model.probability(both, a, b) - 0.5) < abs(chances[0] - 0.5) + 0.01


def test_candidates_of_several_sizes_are_kept_together():
  model, shown = served('bayes_head'), draw(2, 3)
  real = np.array([[True, True, True], [True, False, True]])
  found = model.adapt(Comparisons(shown, np.array([1, 2]), shown=real))
  assert found.history.shown[:2].tolist() == real.tolist()
  shown[1, 1] = np.nan  # nobody looks at what is not shown
  same(found, model.adapt(Comparisons(shown, np.array([1, 2]), shown=real)))


@pytest.mark.parametrize('users', [(), (3,)])
def test_a_saved_profile_predicts_the_same(tmp_path, users):
  model, shown = served('latent_np'), draw(*users, 4, 2)
  profile = model.adapt(pairs(shown[..., 0, :], shown[..., 1, :]))
  found = model.load(model.save(profile, tmp_path / 'ada.npz'))
  same(found, profile)
  same(model.score(found, shown), model.score(profile, shown))
  with pytest.raises(ValueError, match='adapt anew'):
    served('bayes_head').load(tmp_path / 'ada.npz')


def test_a_workdir_is_a_checkpoint_once_it_holds_an_export(tmp_path):
  with pytest.raises(ValueError, match='holds no metapers-learner'):
    Personalizer.from_checkpoint(tmp_path)
  exports.write_export(tmp_path / exports.FOLDER, export('cnp'))
  shown = draw(3, 2)
  found = [
    model.score(model.adapt(pairs(*draw(2, 3))), shown)
    for model in (
      served('cnp'),
      Personalizer.from_checkpoint(tmp_path, capacity=CAPACITY),
      Personalizer.from_checkpoint(tmp_path / exports.FOLDER, capacity=4),
    )
  ]
  same(found[0], found[1])
  close(found[0], found[2])


def test_parameters_must_be_those_of_the_learner():
  with pytest.raises(ValueError, match='do not fit'):
    Personalizer(export('bayes_head', params=export('cnp').params))
  with pytest.raises(
    ValueError, match=r"unknown learner 'mine': an export never imports .* Known without: pooled"
  ):
    Personalizer(export('bayes_head')._replace(learner='mine'))
  with pytest.raises(ValueError, match='capacity must be at least 1'):
    Personalizer(export('bayes_head'), capacity=0)


def test_only_a_posterior_says_how_uncertain_it_is():
  model = served('cnp')
  for function in (model.ask, lambda profile, pool: model.uncertainty(profile, *pool[0])):
    with pytest.raises(
      ValueError,
      match=r'cnp has no posterior \(its has_posterior is False\).*gaussian_prior, latent_np',
    ):
      function(model.adapt(), draw(3, 2))


@pytest.mark.parametrize('name', learners.LEARNERS)
def test_the_learners_named_in_that_message_are_all_that_have_a_posterior(name):
  learner = learners.make(name, **export(name).kwargs)
  assert learner.has_posterior == (name in WITH_POSTERIOR)


@pytest.mark.parametrize('name', learners.LEARNERS)
def test_weight_2_is_the_comparison_twice_and_weight_0_none(name):
  model, (chosen, rejected) = served(name), draw(2, 4)
  once, rows = pairs(chosen, rejected), [0, 1, 1, 3]
  twice = model.adapt(pairs(chosen[rows], rejected[rows]))
  weighted = model.adapt(once._replace(weight=np.array([1, 2, 0, 1])))
  assert weighted.history.mask.sum() == 4
  found, expected, unweighted = (
    model.probability(profile, *draw(2, 5, seed=1))
    for profile in (weighted, twice, model.adapt(once))
  )
  np.testing.assert_allclose(found, expected, atol=1e-4)
  assert np.any(np.abs(found - unweighted) > 1e-3) == (name != 'pooled')
  same(model.adapt(once), model.adapt(once._replace(weight=np.ones(4))))


def test_capacity_counts_comparisons_and_not_weight():
  model, (chosen, rejected) = served('bayes_head'), draw(2, CAPACITY + 1)
  heavy = model.adapt(pairs(chosen, rejected, weight=np.arange(1.0, CAPACITY + 2)))
  assert heavy.history.weight.tolist() == list(range(2, CAPACITY + 2))
  rest = model.comparisons(model.forget(heavy, 3))
  assert rest.weight.tolist() == [2, 3, *range(5, CAPACITY + 2), 0]
  same(model.adapt(rest).user_state, model.forget(heavy, 3).user_state)


@pytest.mark.parametrize('name', ['bayes_head', 'latent_np'])
def test_a_batch_of_questions_does_not_repeat_itself(name):
  model, first, others = served(name), draw(1, 2), draw(6, 2, seed=1)
  alike = 3 * (first + 0.01 * draw(5, 2, seed=2))
  pool = np.concatenate([alike, 0.5 * others])  # five near duplicates, far more informative
  profile = model.adapt()
  asked = model.ask(profile, pool, count=3)
  assert asked.shape == (3,) and len(set(asked.tolist())) == 3
  assert asked[0] == model.ask(profile, pool)
  assert sum(asked < 5) <= 1
  assert sorted(model.ask(profile, pool, count=11).tolist()) == list(range(11))
  users = model.adapt(pairs(*draw(2, 3, 4)))
  many = model.ask(users, np.broadcast_to(pool, (3, *pool.shape)), count=3)
  for index in range(3):
    assert many[index].tolist() == model.ask(model.user(users, index), pool, count=3).tolist()


@pytest.mark.parametrize('count', [0, 4, -1])
def test_a_batch_that_the_pool_does_not_hold_is_refused(count):
  model = served('bayes_head')
  with pytest.raises(ValueError, match=r'count must be a whole number from 1 to 3, the pool; got'):
    model.ask(model.adapt(), draw(3, 2), count=count)


def contextual(features, num_context, *, rate=1.0):
  """A learner from outside of the package: context and choices add to what features are worth."""

  def init(key):
    return {'weights': jax.random.normal(key, (*features.shape, num_context))}

  def adapt(params, support, context, key):
    gap = support.candidates.features[:, 0] - support.candidates.features[:, 1]  # [N, D]
    sign = jnp.where(support.choice == 0, 1.0, -1.0) * support.weight
    return params['weights'] @ context + rate * sign @ gap

  def score(params, user_state, candidates):
    return candidates.features @ user_state

  def update(params, user_state, comparison, context, key):
    raise AssertionError('a profile would depend on the path to its comparisons')

  return meta_learner.from_adapt_score(init, adapt, score, update=update)


CONTEXTUAL = {'num_context': 2, 'rate': 0.5}


@functools.cache
def contextual_export():
  params = leaves.named(contextual(population.vector(D), **CONTEXTUAL).init(jax.random.key(0)))
  scaling = population.unscaled(D)
  return exports.Export('mine.py:contextual', CONTEXTUAL, params, 2, scaling, num_context=2)


@functools.cache
def served_in_context():
  return Personalizer(contextual_export(), learner=contextual, capacity=CAPACITY)


def test_a_model_and_a_profile_say_in_one_line_what_they_hold():
  about = {'source': 'diners', 'num_people': 60}
  model = Personalizer(export('bayes_head', trained_on=about), capacity=CAPACITY)
  assert repr(model) == (
    'Personalizer(bayes_head, 4 features, up to 3 candidates, trained on diners, 60 people; holds '
    'the last 8 comparisons of a person)'
  )
  assert ', a context of 2 numbers, up to 2 candidates, trained on unknown data; holds' in repr(
    served_in_context()
  )
  profile = model.adapt(pairs(*draw(2, 3)))
  assert repr(profile) == (
    f'Profile(one person, 3 comparisons held, 4 features, of model {profile.model[:12]})'
  )
  mask = np.array([[True, True, False], [True, False, False]])
  users = model.adapt(pairs(*draw(2, 2, 3), mask=mask))
  assert repr(users).startswith('Profile(2 people, 3 comparisons held (1 to 2 each), 4 features')
  assert 'history=' not in repr(users) and repr(jax.tree.map(np.shape, profile))


def test_a_learner_from_elsewhere_is_given_by_the_caller(tmp_path):
  path = exports.write_export(tmp_path / 'export', contextual_export())
  for make in (
    lambda: Personalizer(contextual_export()),
    lambda: Personalizer.from_checkpoint(path),
  ):
    with pytest.raises(ValueError, match=r"learner 'mine.py:contextual': an export never imports"):
      make()
  with pytest.raises(ValueError, match='takes no rate; it takes features, num_context'):
    Personalizer(contextual_export(), learner=lambda features, num_context: None)
  model = Personalizer.from_checkpoint(path, learner=contextual, capacity=CAPACITY)
  given, queried = pairs(*draw(2, 3)), draw(5, seed=1)
  found, expected = (
    each.score(each.adapt(given, context=np.array([0.5, 2])), queried)
    for each in (model, served_in_context())
  )
  same(found, expected)


def test_a_context_is_kept_with_the_profile(tmp_path):
  model, shown, queried = served_in_context(), draw(4, 2), draw(5, seed=1)
  other, own = np.float32([[3, -1], [0.5, 2]])
  new = model.adapt(context=own)
  weights = contextual_export().params['weights']
  np.testing.assert_allclose(model.score(new, queried), queried @ weights @ own, rtol=1e-5)
  expected = model.adapt(pairs(shown[:, 0], shown[:, 1]), context=own)
  clicked = new
  for click in range(4):
    clicked = model.update(clicked, pairs(*shown[click]))
  same(clicked, expected)
  fewer = model.forget(model.update(expected, pairs(*draw(2, seed=2), ids=9)), 9)
  same(fewer, expected)
  same(model.load(model.save(expected, tmp_path / 'ada')), expected)
  moved = model.adapt(pairs(shown[:3, 0], shown[:3, 1]), context=other)
  same(model.update(moved, pairs(*shown[3]), context=own), expected)


def test_a_profile_is_loaded_whatever_contexts_the_learner_reads(tmp_path):
  def inverse(num_context):
    def adapt(params, support, context, key):
      return 1 / context

    def score(params, user_state, candidates):
      return candidates.features.sum(-1) * user_state.sum()

    return meta_learner.from_adapt_score(lambda key: (), adapt, score)

  scaling = population.unscaled(D)
  made = exports.Export('inverse', {'num_context': 2}, {}, 2, scaling, num_context=2)
  model = Personalizer(made, learner=inverse)
  profile = model.adapt(context=np.array([0.5, 4.0]))
  same(model.load(model.save(profile, tmp_path / 'ada')), profile)


def test_many_users_have_a_context_each():
  model, shown, contexts = served_in_context(), draw(3, 4, 2), draw(3)[:, :2]
  users = model.adapt(pairs(shown[:, :, 0], shown[:, :, 1]), context=contexts)
  for index in range(3):
    alone = model.adapt(pairs(shown[index, :, 0], shown[index, :, 1]), context=contexts[index])
    same(model.user(users, index).context, alone.context)
    close(model.user(users, index).user_state, alone.user_state)
  new = model.adapt(context=contexts)
  assert (new.history.ids.shape[0], model.best_of(new, draw(3, 5)).shape) == (3, (3,))


def test_an_export_whose_profiles_take_too_much_is_refused(monkeypatch):
  export = Personalizer.load_pretrained().export
  with pytest.raises(ValueError, match='a profile would take 80000000000 bytes or more'):
    Personalizer(export._replace(num_candidates=10**9), capacity=4)
  monkeypatch.setattr(personalizer, 'LARGEST_PROFILE', 1000)
  with pytest.raises(ValueError, match='a profile would take 2208 bytes'):
    Personalizer(export, capacity=4)
