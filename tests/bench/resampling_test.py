"""What intervals for people speak for is what was held out of training, whatever is shown of it."""

import functools

import jax
import numpy as np
import pytest

from metapers import bench, learners
from metapers.bench import plan as plans
from metapers.bench import resampling, results, settings
from metapers.core.tables import Histories
from metapers.evaluation.predictions import Predictions
from metapers.populations import people

NUM_CONTEXTS, SIZE = 24, 15
OPTIONS = {'num_support': 4, 'num_query': 9, 'num_folds': 2, 'item_holdout': True}


def made_up(num_contexts=NUM_CONTEXTS, num_users=60):
  """Everyone compares 40 pairs, each of two of the items of one context."""
  rng = np.random.default_rng(0)
  context = np.repeat(np.arange(num_contexts), SIZE)
  first = rng.integers(0, len(context), (num_users, 40))
  second = first // SIZE * SIZE + (first + rng.integers(1, SIZE, first.shape)) % SIZE
  real = np.ones(first.shape, bool)
  real[::3, 30:] = False  # whose queries are padded
  return Histories(
    features=rng.standard_normal((len(context), 3)),
    item_ids=np.arange(len(context)),
    user_ids=np.arange(num_users),
    chosen=first,
    rejected=second,
    mask=real,
    context=context,
    identity=False,
    num_dropped=0,
    source='made up',
    content_hash='',
  )


@functools.cache
def population(fold, *, num_contexts=NUM_CONTEXTS, share=0.4, item_holdout=True):
  options = {**OPTIONS, 'item_holdout': item_holdout, 'item_holdout_share': share}
  return people.people(made_up(num_contexts), fold=fold, **options)


def setting_of(**options):
  makes = tuple(functools.partial(population, fold, **options) for fold in (0, 1))
  entry = plans.Entry(lambda: learners.make('pooled', num_features=3), populations=makes)
  evaluation = bench.Evaluation(shots=(4,), num_users=40, num_resamples=800)
  condition = plans.Condition(makes)
  plan = plans.Plan({'pooled': entry}, (condition,), makes, evaluation=evaluation, folds=(0, 1))
  return settings.make_setting(plan, condition)


def held_out_contexts():
  histories = made_up()
  held_out = people.hold_out_items(histories, 0.4, 0.2, seed=0)
  return np.unique(histories.context[held_out['test']])


def test_items_are_known_by_their_number_whatever_a_fold_scales_them_by():
  made = setting_of(num_contexts=1)
  kind, ids = made.resampled
  assert kind == 'items' and made.evaluated.num_items == 2
  real = np.asarray(made.tasks.query.candidates.mask)
  unseen = people.hold_out_items(made_up(1), 0.4, 0.2, seed=0)['test']
  np.testing.assert_array_equal(made.evaluated.draws.ids, np.flatnonzero(unseen))
  for fold, own in enumerate(np.split(np.arange(len(ids)), np.cumsum(made.sizes)[:-1])):
    shown = np.asarray(population(fold, num_contexts=1).arrays.features)[ids[own]]
    features = np.asarray(made.tasks.query.candidates.features)[own]
    np.testing.assert_array_equal(shown[real[own]], features[real[own]])


def test_contexts_are_drawn_where_whole_contexts_were_held_out():
  made = setting_of()
  assert made.resampled.kind == 'contexts' and made.evaluated.num_items == 1
  np.testing.assert_array_equal(made.evaluated.draws.ids, held_out_contexts())


def test_of_a_single_context_its_items_are_drawn_and_the_line_says_so():
  assert setting_of(num_contexts=5, share=0.2).resampled.kind == 'items of one context'


def test_items_that_training_showed_are_not_drawn():
  made = setting_of(item_holdout=False)
  assert made.resampled == resampling.Resampled()
  assert (made.evaluated.draws.prompts == 1).all()


def test_an_interval_for_new_contexts_holds_what_differs_between_them():
  made = setting_of()
  query = made.tasks.query
  easy = made.resampled.ids[..., 0] % 2 == 0  # predicted right, and all others wrong
  right = jax.nn.one_hot(np.where(easy, query.choice, 1 - query.choice), 2)
  log_probs = np.log(np.where(right > 0, 0.9, 0.1))[None]
  predicted = {'mine': {'': Predictions(log_probs, np.zeros((1, len(easy), 0, 0)))}}
  frame = results.rows_of(made, results.evaluate_all(made, predicted))
  found = results.select(frame, metric='accuracy').iloc[0]
  of_contexts = held_out_contexts() % 2 == 0
  expected = 1.96 * of_contexts.std(ddof=1) / np.sqrt(of_contexts.size)
  assert (found.ci_high - found.ci_low) / 2 == pytest.approx(expected, rel=0.25)


def test_a_learner_is_compared_with_the_answer_to_one_who_is_not_told_the_setting():
  made = setting_of()
  query = made.tasks.query
  right = np.log(np.where(jax.nn.one_hot(query.choice, 2) > 0, 0.9, 0.1))[None]
  none = np.zeros((1, len(query.choice), 0, 0))
  predicted = {
    name: {'': Predictions(log_probs, none)}
    for name, log_probs in {'mine': right[..., ::-1], 'bayes_mixture': right}.items()
  }
  frame = results.rows_of(made, results.evaluate_all(made, predicted))
  (found,) = results.select(frame, metric='accuracy_minus_bayes_mixture').itertuples()
  assert found.learner == 'mine' and found.value == pytest.approx(-1, abs=1e-4)
