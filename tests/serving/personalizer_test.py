import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from served_learners import CAPACITY, D, close, draw, export, same, served

from metapers import learners
from metapers.core import task
from metapers.core.population import Scaling
from metapers.core.task import Candidates
from metapers.evaluation import acquisition, stopping
from metapers.serving import exports, sizes
from metapers.serving import questions as serving
from metapers.serving.personalizer import Comparisons, Personalizer, pairs
from metapers.serving.questions import WITH_POSTERIOR


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


def test_in_blocks_a_mistake_is_named_by_its_place_among_all(monkeypatch):
  monkeypatch.setattr(serving, 'USERS_PER_CALL', 4)
  model, shown = served('bayes_head'), draw(11, 5, 2)
  given = pairs(shown[:, :, 0], shown[:, :, 1])
  for wrong, place in (
    (given._replace(weight=np.where(np.arange(11)[:, None] == 9, -1.0, np.ones((11, 5)))), '9, 0'),
    (given._replace(choice=np.zeros((10, 5), np.int32)), '10, 5'),
    (given._replace(choice=np.int32(0)), r'choice'),
  ):
    with pytest.raises(ValueError, match=place):
      model.adapt(wrong)
  with pytest.raises(ValueError, match='expected features'):
    model.update(model.adapt(given), given._replace(features=given.features[:7]))


def test_what_is_held_beside_the_profiles_of_many_does_not_grow_with_them(monkeypatch):
  monkeypatch.setattr(serving, 'USERS_PER_CALL', 256)
  model = served('pooled')

  def beside(count):
    shown = draw(count, 4, 2)
    given = pairs(shown[:, :, 0], shown[:, :, 1])
    tracemalloc.start()
    profile = model.adapt(given)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most - sum(leaf.nbytes for leaf in jax.tree.leaves(profile[:3]))

  beside(256)  # compiles
  few, many = beside(2_000), beside(20_000)
  counts = 18_000 * 8  # a number for each user, such as how many comparisons they have
  assert many - few < 2.5 * counts


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


def test_another_model_finds_its_features_by_name():
  ahead, turned = (
    Personalizer(export('bayes_head', feature_names=names))
    for names in (tuple('abcd'), tuple('badc'))
  )
  shown = draw(2, 3)
  found = turned.adapt(ahead.comparisons(ahead.adapt(pairs(*shown))))
  same(found.history, turned.adapt(pairs(*shown[..., [1, 0, 3, 2]])).history)


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
      match=r'cnp has no posterior \(its has_posterior is False\).*gaussian_prior, hedge',
    ):
      function(model.adapt(), draw(3, 2))


@pytest.mark.parametrize('name', learners.LEARNERS)
def test_the_learners_named_in_that_message_are_all_that_have_a_posterior(name):
  learner = learners.make(name, **export(name).kwargs)
  assert learner.has_posterior == (name in WITH_POSTERIOR)


# The evidence of a hedge, and that of a change, counts a weight as a power of the probability.
@pytest.mark.parametrize('name', sorted({*learners.LEARNERS} - {'hedge', 'resetting'}))
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
  # Untrained, lore's logits are a hundredth of a learner's, and p_rm's known users are all alike.
  assert np.any(np.abs(found - unweighted) > 2e-4) == (name not in ('pooled', 'lore', 'p_rm'))
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


def test_when_to_stop_is_a_matter_of_the_draws_of_the_learner():
  model, learner = served('bayes_head'), learners.make('bayes_head', num_features=D)
  profile, pool = model.adapt(pairs(draw(5), draw(5, seed=1))), draw(6, seed=2)
  candidates = Candidates(jnp.asarray(pool)[None], jnp.ones((1, 6), bool))
  drawn = learner.sample(learner.init(jax.random.key(0)), profile.user_state, candidates)
  scores = jnp.asarray(model.score(profile, pool))
  found = model.stop(profile, pool)
  close(tuple(found), tuple(stopping.standing(scores, drawn[:, 0], jnp.ones(6, bool))))
  assert found.best == model.best_of(profile, pool)


def test_many_stop_as_one_does_and_evidence_makes_sure():
  model, pool = served('bayes_head'), draw(2, 3, seed=2)
  few, many = (
    model.adapt(pairs(np.repeat(pool[:, :1], n, 1), np.repeat(pool[:, 1:2], n, 1)))
    for n in (1, CAPACITY)
  )
  found = model.stop(many, pool[:, :2])
  assert (found.probability >= model.stop(few, pool[:, :2]).probability).all()
  assert found.regret.sum() < model.stop(few, pool[:, :2]).regret.sum()
  alone = model.stop(model.user(many, 1), pool[1, :2])
  close(tuple(alone), tuple(np.asarray(x)[1] for x in found))


def test_nobody_stops_without_a_posterior():
  model = served('maml')
  with pytest.raises(ValueError, match='maml has no posterior'):
    model.stop(model.adapt(), draw(3))


@pytest.mark.parametrize('count', [0, 4, -1])
def test_a_batch_that_the_pool_does_not_hold_is_refused(count):
  model = served('bayes_head')
  with pytest.raises(ValueError, match=r'count must be a whole number from 1 to 3, the pool; got'):
    model.ask(model.adapt(), draw(3, 2), count=count)


def test_an_export_whose_profiles_take_too_much_is_refused(monkeypatch):
  export = Personalizer.load_pretrained().export
  with pytest.raises(ValueError, match='a profile would take 80000000000 bytes or more'):
    Personalizer(export._replace(num_candidates=10**9), capacity=4)
  monkeypatch.setattr(sizes, 'LARGEST_PROFILE', 1000)
  with pytest.raises(ValueError, match='a profile would take 9384 bytes'):
    Personalizer(export, capacity=4)
