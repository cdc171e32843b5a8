"""What is refused before anything is trained, and who is never evaluated."""

import functools

import exported
import jax
import jax.numpy as jnp
import pytest
from absl import logging
from own_population import dinners

from experiments import build
from experiments.configs import base
from metapers import bench, learners
from metapers.bench import acquainted, cells, fingerprints, freezing, runner, runs, settings, tuning
from metapers.bench import plan as plans
from metapers.core import meta_learner
from metapers.populations import toy

SHORT = bench.Training(num_steps=4, batch_size=8, chunk_size=8, steps_per_call=2)


def mine():
  return plans.Entry(lambda: learners.make('pooled', num_features=4), training=SHORT)


def plan_of(**changes):
  whole = plans.Plan(
    entries={'mine': mine()},
    conditions=(plans.Condition((toy.two_types,)),),
    populations=(toy.two_types,),
    evaluation=bench.Evaluation(shots=(0, 4), num_users=8, num_resamples=20, num_particles=20),
  )
  return whole._replace(**changes)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (
      {'evaluation': bench.Evaluation(shots=(0,), chunk_size=0, num_users=0)},
      'at least 1 of each, got num_users=0, chunk_size=0',
    ),
    (
      {'entries': {'wide': plans.Entry(lambda: learners.make('pooled', num_features=7))}},
      'wide: ',
    ),
    (
      {
        'conditions': (
          plans.Condition((toy.two_types,), entries={'other': plan_of().entries['mine']}),
        )
      },
      'learners trained anew must be those of the table, mine; got other',
    ),
  ],
)
def test_a_plan_that_cannot_end_is_refused_at_its_start(changes, message):
  with pytest.raises(ValueError, match=message):
    runner.prepare(plan_of(**changes))


def test_a_mixture_is_refused_before_a_run_is_trained():
  evaluation = bench.Evaluation(shots=(0,), num_users=8, mixture=({'temperature': 1.0},), rival='')
  wanted = plan_of(
    conditions=(plans.Condition((dinners,)),), populations=(dinners,), evaluation=evaluation
  )
  with pytest.raises(ValueError, match=r'evaluation\.mixture is for the scores track'):
    runner.prepare(wanted)


def test_learners_trained_anew_are_trained_on_the_conditions_own_users():
  def others():
    return dinners(seed=1)

  anew = plans.Condition((others,), changes={'seed': 1}, entries=plan_of().entries)
  plan = plan_of(conditions=(plans.Condition((dinners,)), anew), populations=(dinners,))
  trained = cells.learned(plan, None, exported.quiet)['mine', 0]
  assert [each._entry.populations for each in trained] == [(dinners,), (others,)]


def test_people_who_are_trained_on_are_not_evaluated(tmp_path):
  plan = exported.people(tmp_path)
  (condition,) = plan.conditions
  settings.make_setting(plan, condition)  # each fold by the run that never saw them
  turned = condition._replace(populations=condition.populations[::-1])
  with pytest.raises(ValueError, match='people to evaluate are trained on or chosen by'):
    settings.make_setting(plan, turned)


def test_known_users_are_those_that_every_learner_was_trained_on(tmp_path):
  config = base.base(build.population_config('reward_ensemble', num_users=20))
  rows = {'pooled': {}, 'cnp': {'population': {'num_users': 30}}}
  config = base.table(config, rows, conditions=({'split': 'seen'}, {}))
  plan = build.plan(exported.tiny(config))
  known, new = plan.conditions
  settings.make_setting(plan, new)
  with pytest.raises(ValueError, match=r'cnp was trained on others \(30 of them; 20 here\)'):
    settings.make_setting(plan, known)
  settings.make_setting(plan._replace(entries={'pooled': plan.entries['pooled']}), known)
  people = exported.people(tmp_path)
  (condition,) = people.conditions
  turned = condition._replace(split='seen', populations=condition.populations[::-1])
  with pytest.raises(ValueError, match='pooled was trained on others'):
    acquainted.check(people, turned, [make() for make in turned.populations])


def test_options_are_not_chosen_by_people_whom_another_fold_is_evaluated_on(tmp_path):
  plan = exported.people(tmp_path, num_folds=5, folds=(0, 1, 2), num_people=60)
  population = plan.populations[0]()
  learner = plans.build(plan.entries['pooled'], population.spec)
  run = runs.Run(learner, learner.init(jax.random.key(1)), population, 0)
  evaluation = plan.evaluation._replace(num_validation_users=100)
  names = population.items.user_ids(population.arrays, 'validation').tolist()
  tested = [acquainted.people_of(make(), ['test']) for make in plan.populations[1:]]
  assert set(names) & set().union(*tested) and not set(names) <= set().union(*tested)
  two = tuning.nll_of(run, evaluation._replace(num_validation_users=2))
  assert tuning.nll_of(run, evaluation, names[2:]) == pytest.approx(two)
  later = {*names[:3], *names[5:]}  # the number of users is of those who are left
  assert tuning.nll_of(run, evaluation._replace(num_validation_users=2), {*later}) == pytest.approx(
    tuning.nll_of(run, evaluation, {*later})
  )
  assert set().union(*tested) < tuning.tested_people(plan)
  every = exported.people(tmp_path, num_folds=2, folds=(0, 1), num_people=60)
  with pytest.raises(ValueError, match='every validation user of fold 0 is a test user of another'):
    tuning.run([every], {'pooled': [{}]}, tmp_path / 'workdir')
  assert not (tmp_path / 'workdir').exists()


def test_conditions_that_differ_have_titles_that_differ():
  several = tuple({'temperature': t, 'num_slates': n} for t in (0.1, 1.0) for n in (2, 3))
  config = base.base(build.population_config('reward_ensemble', concentration=(0.05, 1.0)))
  plan = build.plan(exported.tiny(base.table(config, {'pooled': {}}, conditions=several)))
  made = [settings.make_setting(plan, condition) for condition in plan.conditions]
  assert len({setting.title for setting in made}) == len(several)
  assert 'temperature 0.1, num_slates 2' in made[0].title
  assert {setting.labels['temperature'] for setting in made} == {'0.1', '1'}
  assert {setting.labels['concentration'] for setting in made} == {'0.05+1'}


def test_the_label_of_training_is_of_the_users_that_were_trained_on():
  config = base.base(
    build.population_config('reward_ensemble', num_users=20, num_labels=8, num_support=16)
  )
  plan = build.plan(exported.tiny(base.table(config, {'pooled': {}})))
  found = settings.trained(plan, plan.conditions[0])
  assert found == {'pooled': {'train_shots': '0-4', 'train_steps': '2000'}}


@pytest.mark.parametrize('wrap', [jax.jit, jax.checkpoint, lambda function: function])
def test_an_array_inside_a_nested_program_makes_another_learner(wrap):
  def learner(factor):
    held = jnp.full(4, factor)

    @wrap
    def weigh(features):
      return features @ held

    return meta_learner.from_adapt_score(
      lambda key: {'w': jnp.zeros(())},
      lambda params, support, context, key: (),
      lambda params, state, candidates: params['w'] + weigh(candidates.features),
    )

  tasks = fingerprints.train_tasks(toy.two_types())
  one, two = (fingerprints.of_learner(learner(factor), tasks) for factor in (1.0, 2.0))
  assert one != two == fingerprints.of_learner(learner(2.0), tasks)


@pytest.fixture
def said(monkeypatch):
  lines = []
  monkeypatch.setattr(logging, 'warning', lambda form, *values: lines.append(form % values))
  return lines


def few(num_users):
  make = functools.partial(toy.two_types, num_users=num_users, num_query=25)
  return plan_of(conditions=(plans.Condition((make,)),), populations=(make,))


def test_few_users_of_any_split_are_said_with_the_interval_to_expect(said):
  runner.prepare(few(12))
  known = 'a mean over them is known to ± 0.57 of what single ones differ by (sd)'
  assert said == [
    "default: 8 users of split 'test': an accuracy over them is known to ± 6.9 points at best",
    f'12 users to learn from: {known}',
    f'12 users to choose parameters by: {known}',
  ]
  said.clear()
  plan = few(40)
  runner.prepare(plan._replace(evaluation=plan.evaluation._replace(num_users=20)))
  assert not said


def test_one_user_says_what_is_needed():
  plan = few(40)
  with pytest.raises(ValueError, match='an interval needs two: give more people or fewer folds'):
    runner.prepare(plan._replace(evaluation=plan.evaluation._replace(num_users=1)))
  one = functools.partial(toy.two_types, num_users=1)
  alone = plan._replace(entries={'mine': mine()._replace(populations=(one,))})
  with pytest.raises(ValueError, match='a single user to learn from, and what users share needs'):
    runner.prepare(alone)


def test_people_who_are_alone_in_their_fold_are_a_table_together(tmp_path, said):
  each = exported.people(tmp_path, num_folds=15, folds=tuple(range(15)))
  (setting,) = runner.prepare(each)
  assert setting.sizes == (1,) * 15
  assert said[0].startswith("default: 15 users of split 'test': ")
  with pytest.raises(
    ValueError, match=r'1 users of split .test. to evaluate, and an interval needs'
  ):
    runner.prepare(exported.people(tmp_path, num_folds=15, folds=(3,)))


def test_few_users_are_said_where_nothing_is_trained(tmp_path, said):
  freezing.export_episodes(
    few(12), tmp_path / 'episodes', licence='none', has_references=False, log=exported.quiet
  )
  assert [line.split(':')[0] for line in said] == [
    'default', '12 users to learn from', '12 users to choose parameters by',
  ]  # fmt: skip


def test_shots_that_no_history_holds_are_left_out_and_said_where_that_is_asked(said):
  plan = few(40)
  evaluation = plan.evaluation._replace(shots=(0, 4, 20, 50), num_users=20)
  with pytest.raises(ValueError, match=r'shots must lie in 0..8 .num_support .* got .0, 4, 20, 50'):
    runner.prepare(plan._replace(evaluation=evaluation))
  (setting,) = runner.prepare(plan._replace(evaluation=evaluation._replace(cut_shots=True)))
  assert setting.shots == (0, 4)
  assert said == [
    'shots 20, 50 are left out: histories leave 8 comparisons to adapt to, at most (num_support); '
    'of people min_query=N leaves more of them, and fewer to evaluate'
  ]
  nothing = evaluation._replace(cut_shots=True, shots=(20,))
  with pytest.raises(ValueError, match=r'shots must lie in 0\.\.8'):
    runner.prepare(plan._replace(evaluation=nothing))
