"""A reading from end to end, on users of whom everything is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.analysis import costs, gains, groups, tax
from metapers.bench import for_whom, readings, results
from metapers.bench.evidence import Evidence
from metapers.bench.plan import TextLengths
from metapers.bench.readings import Extras
from metapers.bench.settings import Setting
from metapers.core import task
from metapers.core.tables import RewardTable
from metapers.core.task import Candidates, Task, Truth
from metapers.evaluation import estimates
from metapers.evaluation.predictions import Predictions
from metapers.learners import pooled
from metapers.populations import reward_ensemble

NAMES = (tax.SAFETY, 'gemma_2b', 'gemma_7b')
SHOTS = (0, 4)
T = 40


def store():
  rng = np.random.default_rng(0)
  rewards = rng.standard_normal((90, 4, 3)).astype(np.float32)
  split = np.repeat([0, 1, 2], 30)
  models = np.tile(np.arange(4), (90, 1))
  statistics = np.zeros(3, np.float32), np.ones(3, np.float32)
  mask = np.ones((90, 4), bool)
  names = tuple('abcd')
  return RewardTable(rewards, None, mask, NAMES, models, names, *statistics, split, 'toy', 'hash')


def users(population, num_queries=8, num_slates=4):
  """Episodes of test users on the store's test prompts, without the time to compile any."""
  rng = np.random.default_rng(1)
  arrays = jax.device_get(population.arrays)
  weights = arrays.users['test'].weights
  prompts = rng.choice(np.arange(60, 90), (T, num_queries))
  order = rng.permuted(np.tile(np.arange(4), (T, num_queries, 1)), axis=-1)[..., :2]
  rewards = arrays.rewards[prompts[..., None], order]
  shown, real = np.ones(rewards.shape[:3], bool), np.ones(prompts.shape, bool)
  choice = np.einsum('tnkb,tb->tnk', rewards, weights).argmax(-1)
  query = task.choices(*jax.device_put((Candidates(rewards, shown), choice, real)))
  slates = rng.choice(np.arange(60, 90), (T, num_slates))
  offered = Candidates(arrays.rewards[slates], arrays.mask[slates])
  seen = rewards, shown, prompts
  truth = Truth(weights, *seen, *seen, offered, offered.features, slates, arrays.models[slates])
  return jax.device_put((Task(query, query, np.full(T, T), np.zeros((T, 0), np.float32)), truth))


@pytest.fixture(scope='module')
def setting():
  population = reward_ensemble.reward_ensemble(
    store(), concentration=0.1, num_support=4, num_query=8, num_slates=4, num_held_out=T
  )
  tasks, truth = users(population)
  return Setting(
    name='default',
    title='toy users',
    labels={'protocol': 'p', 'population': 'toy', 'split': 'test'},
    shots=SHOTS,
    populations=(population,),
    sizes=(T,),
    tasks=tasks,
    truth=truth,
    evaluated=estimates.evaluation_set(tasks, truth, num_resamples=60),
    trained={'maml': {'train_shots': '4'}, 'pooled': {'train_shots': '4'}},
  )


def knowing(setting, share):
  """Predicts as one who knows this share of everyone's weights, from the first shot on."""
  truth = setting.truth
  known = share * jnp.asarray([0.0, 1.0])[:, None, None]
  weights = known * truth.weights[None] + (1 - known) / len(NAMES)
  utilities = jnp.einsum('tnkb,ltb->ltnk', truth.query_rewards[:, :, :2], weights)
  scores = jnp.einsum('tmrb,ltb->ltmr', truth.slate_rewards, weights)
  return jax.device_get(Predictions(jax.nn.log_softmax(3 * utilities), scores))


@pytest.fixture(scope='module')
def predictions(setting):
  return {
    'bayes': {'': knowing(setting, 1.0)},
    'maml': {'0': knowing(setting, 0.5), '1': knowing(setting, 0.7)},
    'pooled': {'0': knowing(setting, 0.0)},
  }


def test_predictions_that_cannot_be_evaluated_are_named(setting, predictions):
  lost = predictions['pooled']['0']
  lost = lost._replace(log_probs=np.full_like(lost.log_probs, np.nan))
  with pytest.raises(ValueError, match=r'^pooled 0 on toy users: .*nll not finite'):
    results.evaluate_all(setting, {**predictions, 'pooled': {'0': lost}})


@pytest.fixture(scope='module')
def reading(setting, predictions):
  learner = pooled.pooled(3)
  params = learner.init(jax.random.key(0))
  subset = np.where(np.arange(90) % 2 == 0, 'chat', 'harmless')
  lengths = np.random.default_rng(1).random((90, 4)).astype(np.float32)
  extras = Extras(
    flipped={'maml': predictions['maml']},
    costs={'pooled': costs.measure(learner, params, setting.tasks, key=jax.random.key(1))},
    texts=TextLengths(lengths, subset),
  )
  return read(setting, predictions, extras=extras)


def read(setting, predictions, **options):
  overall = results.over_seeds(results.evaluate_all(setting, predictions))
  return readings.read_setting(setting, predictions, overall, **options)


def value(reading, learner, metric, shots='4'):
  found = results.select(reading.frame, learner=learner, metric=metric, shots=shots)
  return found['value'].item()


def test_every_cell_is_there_once_with_an_interval_around_its_value(reading):
  frame = reading.frame
  assert not frame.duplicated(list(results.CELL)).any()
  assert (frame['ci_low'] - 1e-6 <= frame['value']).all()
  assert (frame['value'] <= frame['ci_high'] + 1e-6).all()
  assert set(frame['protocol']) == {'p'}
  assert frame['num_users'].between(1, T).all()


def test_the_rows_say_what_was_planted(reading, setting, predictions):
  found = results.over_seeds(results.evaluate_all(setting, predictions))
  at_floor, at_top, own = (found[name]['accuracy'][0, 1] for name in ('pooled', 'bayes', 'maml'))
  share = value(reading, 'maml', 'accuracy_share_of_bayes')
  np.testing.assert_allclose(share, (own - at_floor) / (at_top - at_floor), rtol=1e-5)
  assert value(reading, 'maml', 'flip_rate') == 0
  for group in (1, 2, 3, 4):
    gained = value(reading, 'maml', f'accuracy_minus_pooled@entropy:{group}')
    lost = value(reading, 'maml', f'accuracy_minus_bayes@entropy:{group}')
    assert lost < 0 < gained
  assert value(reading, 'bayes', 'pick_mean_reward_minus_pooled') < -0.05
  assert abs(value(reading, 'maml', 'pick_length_minus_pooled')) < 0.2
  assert 0.1 < value(reading, '', 'disagreement', '') < 0.5


def user_accuracies(setting, made):
  return [gains.user_accuracy(setting.evaluated, one)[1] for one in made.values()]


def test_users_are_counted_for_whom_a_trained_learner_is_worse_or_better(
  reading, setting, predictions
):
  (floor,) = user_accuracies(setting, predictions['pooled'])
  gain = np.stack(user_accuracies(setting, predictions['maml'])) - floor  # [S, T]
  assert 0 < (gain > 1e-6).mean() < 1
  for metric, hits in (('worse', gain < -1e-6), ('better', gain > 1e-6)):
    share = value(reading, 'maml', f'users_{metric}_than_pooled')
    np.testing.assert_allclose(share, hits.mean(), rtol=1e-6)
  assert value(reading, 'maml', 'users_worse_than_pooled', '0') == 0


def test_the_share_of_users_is_for_models_trained_anew(setting, predictions):
  uneven = {str(seed): knowing(setting, share) for seed, share in enumerate((0.1, 0.3, 1.0))}
  made = {'maml': uneven, 'pooled': predictions['pooled']}
  (floor,) = user_accuracies(setting, made['pooled'])
  better = [(own > floor + 1e-6).mean() for own in user_accuracies(setting, uneven)]
  found = results.select(
    read(setting, made).frame, learner='maml', metric='users_better_than_pooled', shots=4
  ).iloc[0]
  of_seeds = 4.303 * np.std(better, ddof=1) / np.sqrt(3)  # t of two degrees of freedom
  assert found.ci_low <= max(0, found.value - 0.6 * of_seeds)  # a share ends at 0 and 1
  assert found.ci_high >= min(1, found.value + 0.6 * of_seeds)


def test_seeds_of_pooled_are_beside_those_of_a_learner():
  a, b, c, d = np.arange(4)[:, None, None]
  assert for_whom.seed_pairs([a, b], [c, d]) == [(a, c), (b, d)]
  assert for_whom.seed_pairs([a], [c, d]) == [(a, c), (a, d)]


def of_group(setting, predictions, accuracy=None):
  """Returns the row of the first ten users, and the estimate that it is of."""
  first = groups.Groups('half', ('a', 'b'), np.where(np.arange(T) < 10, 0, 1))
  found = groups.estimate(setting.evaluated, predictions['pooled']['0'], first)['accuracy']
  found = found if accuracy is None else np.full_like(found, accuracy)
  given = Evidence(setting, predictions, {}, 1)
  frame = for_whom.group_rows(given, 'pooled', {'accuracy': found}, first)
  return results.select(frame, metric='accuracy@half:1').iloc[0], found[:, :1]


def test_the_interval_of_a_group_is_widened_once(setting, predictions):
  row, samples = of_group(setting, predictions)
  expected = estimates.interval('accuracy', samples, **setting.evaluated.sizes)[:, 0]
  np.testing.assert_allclose([row.value, row.ci_low, row.ci_high], expected)
  assert row.num_users == 10


def test_where_no_user_of_a_group_differs_its_own_number_says_how_sure_that_is(
  setting, predictions
):
  row, _ = of_group(setting, predictions, accuracy=1.0)
  assert row.ci_low == pytest.approx(0.05 ** (1 / 10)) and row.ci_high == 1


def test_the_tax_on_a_subset_is_for_its_own_numbers_of_users_and_prompts(setting, predictions):
  subset = np.where(np.arange(90) < 72, 'few', 'many')
  made, pooled = predictions['bayes'][''], predictions['pooled']['0']
  texts = TextLengths(np.zeros((90, 4), np.float32), subset)
  frame = read(setting, predictions, extras=Extras(texts=texts)).frame
  prompts = np.asarray(setting.truth.slate_prompts)
  there = prompts < 72
  measured = tax.outcomes(setting.truth, NAMES)
  found = [
    tax.estimate(setting.evaluated, one, measured, slates=there)['pick_mean_reward']
    for one in (made, pooled)
  ]
  sizes = {'num_users': int(there.any(-1).sum()), 'num_prompts': len(set(prompts[there]))}
  expected = estimates.interval('pick_x_minus_pooled', (found[0] - found[1])[:, 1:], **sizes)
  metric = 'pick_mean_reward_minus_pooled@few'
  row = results.select(frame, learner='bayes', metric=metric).iloc[0]
  np.testing.assert_allclose([row.value, row.ci_low, row.ci_high], expected[:, 0], rtol=1e-5)
  assert row.num_users == sizes['num_users'] < T and sizes['num_prompts'] < 15


def test_every_table_says_what_its_numbers_mean(reading):
  assert all(table.note for table in reading.section.tables)


def test_seeds_are_averaged_and_references_are_of_no_training(reading):
  seeds = set(reading.frame[['learner', 'seed', 'train_shots']].itertuples(index=False, name=None))
  expected = {('maml', 'all', '4'), ('pooled', '0', '4'), ('bayes', '', ''), ('', '', '')}
  assert seeds == expected


def test_there_is_no_share_where_there_is_no_gap(reading):
  shares = results.select(reading.frame, metric='accuracy_share_of_bayes')
  assert shares['shots'].tolist() == ['4']  # at 0 shots bayes is pooled


def test_every_part_has_its_table(reading):
  captions = ' | '.join(table.caption for table in reading.section.tables)
  for part in ('calibration', 'share (%)', 'flip rate', 'nearest', 'L1', 'entropy', 'tax', 'costs'):
    assert part in captions
  (by_entropy,) = [table for table in reading.section.tables if 'entropy' in table.caption]
  assert [line[0] for line in by_entropy.body] == ['bayes', 'maml', 'pooled']
  assert all(cell for cell in by_entropy.body[1])
  for table in reading.section.tables:
    assert {len(line) for line in table.body} == {len(table.header)}


def test_real_people_are_read_without_their_weights(setting, predictions):
  evaluated = estimates.evaluation_set(setting.tasks, num_resamples=20)
  people = setting._replace(truth=None, evaluated=evaluated)
  empty = np.zeros((2, T, 0, 0), np.float32)
  made = {
    name: {seed: one._replace(slate_scores=empty) for seed, one in by_seed.items()}
    for name, by_seed in predictions.items()
  }
  reading = read(people, made, shots=4)
  assert any('unknown' in line for line in reading.section.text)
  assert set(reading.frame['metric']) == {
    'accuracy_share_of_bayes', 'users_worse_than_pooled', 'users_better_than_pooled'
  }  # fmt: skip


def test_a_number_of_shots_that_was_not_evaluated_is_refused(setting, predictions):
  with pytest.raises(ValueError, match='shots=3 was not evaluated; choose among 0, 4'):
    readings.read_setting(setting, predictions, {}, shots=3)


def test_predictions_at_other_numbers_of_shots_are_refused(setting, predictions):
  cut = {'pooled': {'0': jax.tree.map(lambda x: x[:1], predictions['pooled']['0'])}}
  with pytest.raises(ValueError, match=r'pooled predicts at \[1\] numbers of shots'):
    readings.read_setting(setting, cut, {})


def test_users_that_were_trained_on_are_at_no_distance(setting, predictions):
  population = setting.populations[0]
  users = {**population.arrays.users, 'train': population.arrays.users['test']}
  seen = population._replace(arrays=population.arrays._replace(users=users))
  reading = read(setting, predictions, extras=Extras(trained_on=seen))
  assert value(reading, '', 'nearest_disagreement_mean', '') == 0
  assert value(reading, '', 'nearest_disagreement_none', '') == 1
  assert value(reading, '', 'nearest_l1_median', '') < 1e-6
