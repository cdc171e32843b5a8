import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers import learners
from metapers.core import population, task
from metapers.core.population import Scaling
from metapers.core.task import Candidates
from metapers.io import leaves
from metapers.serving import exports
from metapers.serving import questions as serving
from metapers.serving.personalizer import Comparisons, Personalizer, pairs

D, CAPACITY = 4, 8


def export(name, **changes):
  known = inspect.signature(learners.LEARNERS[name]).parameters
  kwargs = {'num_features': D} | ({'num_users': 3} if 'num_users' in known else {})
  params = learners.make(name, **kwargs).init(jax.random.key(0))
  scaling = population.unscaled(D)
  made = exports.Export(name, kwargs, leaves.named(params), 3, scaling, (), {'source': 'none'}, '')
  return made._replace(**changes)


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


def test_a_person_is_adapted_to_as_the_learner_would():
  model, learner = served('bayes_head'), learners.make('bayes_head', num_features=D)
  params = learner.init(jax.random.key(0))
  shown, asked = draw(3, 2).astype(np.float16), draw(5, 2, seed=1)
  real = jnp.ones((3, 2), bool)
  support = task.choices(Candidates(jnp.float32(shown), real), jnp.array([1, 0, 1]), real[:, 0])
  state = learner.adapt(params, support, jnp.zeros(0), jax.random.key(0))
  pool = Candidates(jnp.asarray(asked), jnp.ones((5, 2), bool))
  profile = model.adapt(Comparisons(shown, np.array([1, 0, 1])))
  close(profile.user_state, state)
  close(model.score(profile, asked), learner.score(params, state, pool))
  chances = model.probability(profile, asked[:, 0], asked[:, 1])
  close(chances, jnp.exp(learner.predict(params, state, pool))[:, 0])
  utilities = learner.sample(params, state, pool)
  close(model.uncertainty(profile, asked[:, 0], asked[:, 1]),
        jnp.std(jax.nn.softmax(utilities)[..., 0], 0))  # fmt: skip
  assert model.ask(profile, asked) == jnp.argmax(
    serving.mutual_information(jax.nn.log_softmax(utilities))
  )
  assert model.best_of(profile, asked[:, 0]) == jnp.argmax(learner.score(params, state, pool)[:, 0])


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
  people = model.adapt(pairs(shown[:, :, 0], shown[:, :, 1]))
  fewer = model.forget(people, np.array([4, 4, 4]))
  same(fewer, model.adapt(pairs(shown[:, :4, 0], shown[:, :4, 1])))


def test_a_million_are_served_as_one_is(monkeypatch):
  monkeypatch.setattr(serving, 'PEOPLE_PER_CALL', 4)
  model, shown, asked = served('bayes_head'), draw(11, 5, 2), draw(11, 6, 2, seed=1)
  mask = np.random.default_rng(0).random((11, 5)) < 0.7
  people = model.adapt(pairs(shown[:, :, 0], shown[:, :, 1], mask=mask))
  answers = (
    model.score(people, asked),
    model.probability(people, asked[:, :, 0], asked[:, :, 1]),
    model.best_of(people, asked[:, :, 0]),
    model.ask(people, asked),
  )
  for user in range(11):
    alone = model.adapt(pairs(shown[user][mask[user], 0], shown[user][mask[user], 1]))
    close(jax.tree.map(lambda x, user=user: x[user], people.user_state), alone.user_state)
    close(jax.tree.map(lambda x, user=user: x[user], answers), (
      model.score(alone, asked[user]),
      model.probability(alone, asked[user, :, 0], asked[user, :, 1]),
      model.best_of(alone, asked[user, :, 0]),
      model.ask(alone, asked[user]),
    ))  # fmt: skip


def test_raw_features_are_scaled_inside():
  scaling = Scaling(np.float32([1e4, -3, 0.5, 7]), np.float32([100, 0.5, 1, 3]))
  raw = Personalizer(export('bayes_head', scaling=scaling))
  shown, asked = draw(3, 2), draw(5, seed=1)
  unscaled = shown * scaling.scale + scaling.mean
  profile = raw.adapt(pairs(unscaled[:, 0], unscaled[:, 1]))
  found = raw.score(profile, asked * scaling.scale + scaling.mean)
  model = served('bayes_head')
  expected = model.score(model.adapt(pairs(shown[:, 0], shown[:, 1])), asked)
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
  people = model.adapt(pairs(chosen, rejected, mask=mask))
  pair = np.broadcast_to(np.stack([a, b])[:, None, None], (2, 3, 1, D))
  chance = model.probability(people, *pair)[:, 0]
  assert all_finite((people.user_state, chance))
  assert np.all((chance >= 0) & (chance <= 1))
  assert model.best_of(people, 3 * draw(3, 5)).shape == (3,)
  alone = model.adapt(pairs(usual[0, :CAPACITY], usual[1, :CAPACITY]))
  np.testing.assert_allclose(chance[2], model.probability(alone, a, b), atol=1e-4)


def test_evidence_counts_and_narrows():
  model, (a, b) = served('bayes_head'), draw(2)
  stranger = model.adapt()
  once, often = (model.adapt(pairs(*np.stack([[a] * n, [b] * n]))) for n in (1, 8))
  chances = [model.probability(profile, a, b) for profile in (stranger, once, often)]
  doubts = [model.uncertainty(profile, a, b) for profile in (stranger, once, often)]
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


@pytest.mark.parametrize('people', [(), (3,)])
def test_a_saved_profile_answers_the_same(tmp_path, people):
  model, shown = served('latent_np'), draw(*people, 4, 2)
  profile = model.adapt(pairs(shown[..., 0, :], shown[..., 1, :]))
  found = model.load(model.save(profile, tmp_path / 'ada.npz'))
  same(found, profile)
  same(model.score(found, shown), model.score(profile, shown))
  with pytest.raises(ValueError, match='adapt anew'):
    served('bayes_head').load(tmp_path / 'ada.npz')


def test_a_workdir_is_a_checkpoint_once_it_holds_an_export(tmp_path):
  with pytest.raises(ValueError, match='holds no metapers-learner'):
    Personalizer.from_checkpoint(tmp_path)
  exports.write(tmp_path / exports.FOLDER, export('cnp'))
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
  with pytest.raises(ValueError, match=r"unknown learner 'mine'; known: pooled"):
    Personalizer(export('bayes_head')._replace(learner='mine'))
  with pytest.raises(ValueError, match='capacity must be at least 1'):
    Personalizer(export('bayes_head'), capacity=0)


def test_only_a_posterior_can_tell_what_it_does_not_know():
  model = served('cnp')
  for asked in (model.ask, lambda profile, pool: model.uncertainty(profile, *pool[0])):
    with pytest.raises(ValueError, match=r'cnp has no posterior.*latent_np, bayes_head'):
      asked(model.adapt(), draw(3, 2))
