"""What is refused before anything is trained, and who is never evaluated."""

import exported
import jax
import jax.numpy as jnp
import pytest
from own_population import dinners

from experiments import build
from experiments.configs import base
from metapers import bench, learners
from metapers.bench import cells, fingerprints, runner, settings
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
  trained = cells.trained_by_condition(plan, 'mine', 0, None, exported.quiet)
  assert [each._entry.populations for each in trained] == [(dinners,), (others,)]


def test_people_who_are_trained_on_are_not_evaluated(tmp_path):
  plan = exported.people(tmp_path)
  (condition,) = plan.conditions
  settings.make_setting(plan, condition)  # each fold by the run that never saw them
  turned = condition._replace(populations=condition.populations[::-1])
  with pytest.raises(ValueError, match='people to evaluate are trained on or chosen by'):
    settings.make_setting(plan, turned)


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
