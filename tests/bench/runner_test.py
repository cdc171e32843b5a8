"""`bench.compare`: a table from objects alone."""

import functools
import re
import subprocess
import sys

import jax
import numpy as np
import optax
import pandas as pd
import pytest
from own_population import dinners

from metapers import bench, learners
from metapers.bench import fingerprints, plan, references, results, runner
from metapers.core import meta_learner
from metapers.io import workdirs
from metapers.populations import toy
from metapers.training import objectives

pytestmark = pytest.mark.slow

SHORT = bench.Training(num_steps=20, batch_size=8, chunk_size=8, steps_per_call=10)
SMALL = bench.Evaluation(
  num_users=16, num_validation_users=8, num_resamples=20, num_particles=40, rival='cook b'
)


def quiet(text):
  del text


@functools.cache
def small_learners():
  return {
    'cnp': learners.make('cnp', num_features=4, hidden=8, width=4),
    'pooled': learners.make('pooled', num_features=4, hidden=()),
  }


def one_learner():
  return small_learners()['pooled']


def table(population, **options):
  given = {'training': SHORT, 'evaluation': SMALL, 'shots': (0, 4), 'log': quiet} | options
  return runner.compare(small_learners(), population, **given)


@pytest.fixture(scope='module')
def on_dinners(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('table') / 'workdir'
  return table(dinners(), workdir=workdir), workdir


def test_a_population_of_ones_own_gets_references_differences_and_groups(on_dinners):
  result, _ = on_dinners
  assert tuple(result.frame.columns) == results.COLUMNS
  known = {'oracle', 'oracle_features', 'bayes_scores', 'bayes_features'}
  assert set(result.frame['learner']) >= {'cnp', *known}
  metrics = set(result.frame['metric'])
  assert {'accuracy', 'nll', 'ece', 'regret', 'win_rate', 'accuracy_minus_pooled'} <= metrics
  assert 'accuracy_minus_pooled@entropy:1' in metrics
  assert 'pick_mean_reward_minus_pooled' in metrics
  accuracy = results.select(result.frame, metric='accuracy', shots=4).set_index('learner')['value']
  assert accuracy['oracle'] == pytest.approx(1.0)
  assert accuracy['oracle'] > accuracy['bayes_scores'] > accuracy['pooled']
  assert accuracy['oracle_features'] > accuracy['bayes_features'] > accuracy['pooled']


def test_a_result_is_shown_as_table_figure_and_page(on_dinners, tmp_path):
  result, _ = on_dinners
  shown = result.table()
  assert isinstance(shown, pd.DataFrame)
  assert shown.index[0] == 'oracle' and shown.index[-1] == 'pooled'
  assert list(shown.columns) == ['0', '4']
  (axis,) = result.plot('nll').axes
  assert axis.get_ylabel() == 'nll (nats)'
  assert not any('%' in tick.get_text() for tick in axis.get_yticklabels())
  page = result.report(tmp_path / 'report.html').read_text()
  assert 'synthetic diners' in page
  assert 'minus' in page and '<svg' in page
  lead = page[page.index('<ul class="lead">') : page.index('<section')]
  assert 'After 4 comparisons of a new user, cnp is the only learner beside pooled' in lead
  assert 'of the users' in lead and 'worse than pooled' in lead
  named = result.report(tmp_path / 'named.html', name='people:quick').read_text()
  assert '<h1>metapers: people:quick</h1>' in named
  captions = re.findall('<figcaption id="table-1-[12]">([a-z_]+) ', page)
  assert captions == ['accuracy_minus_pooled', 'accuracy']


def test_a_finished_table_trains_nothing_and_gives_the_same_numbers(on_dinners):
  result, workdir = on_dinners
  said = []
  again = table(dinners(), workdir=workdir, log=said.append)
  assert not [line for line in said if 'steps' in line]
  pd.testing.assert_frame_equal(again.frame, result.frame)


def test_without_a_workdir_the_numbers_are_the_same(on_dinners):
  result, _ = on_dinners
  pd.testing.assert_frame_equal(table(dinners()).frame, result.frame)


def test_a_workdir_of_another_population_is_refused(on_dinners):
  _, workdir = on_dinners
  with pytest.raises(ValueError, match=r'holds a run of another config \(population\.0\.sample: '):
    table(dinners(seed=1), workdir=workdir)


def test_a_leak_ends_a_table_before_anything_is_trained(tmp_path):
  with pytest.raises(ValueError, match=r'leak of prompts: 10 test prompts'):
    table(dinners(shared_nights=10), workdir=tmp_path / 'leaky')
  assert not (tmp_path / 'leaky').exists()


def test_what_a_user_knows_better_is_said_and_not_refused(tmp_path):
  leaky = functools.partial(dinners, shared_nights=10)
  warned = plan.Plan(
    entries={},
    conditions=(plan.Condition((leaky,)),),
    populations=(leaky,),
    evaluation=SMALL._replace(leaks='warn'),
  )
  said = []
  found = runner.leaks_of(warned, tmp_path, said.append)
  assert any('10 test prompts' in line for line in found['default'].lines)
  assert any('10 test prompts' in line for line in said)
  assert 'default: leaks of texts were not looked for: no texts of prompts are kept' in said
  with pytest.raises(ValueError, match="must be 'error' or 'warn', got 'no'"):
    runner.prepare(warned._replace(evaluation=SMALL._replace(leaks='no')))


def test_users_of_two_types_have_the_exact_answer_in_closed_form():
  result = table(toy.two_types())
  assert 'bayes' in result.table().index
  nll = results.select(result.frame, metric='nll', learner='bayes', shots=4)['value'].item()
  assert nll < 0.1


def test_conditions_with_the_same_users_share_what_references_make_of_them(tmp_path):
  population, said = dinners(), []
  known = jax.tree.map(lambda x: x[::-1], population.arrays['users']['train'])
  users = {**population.arrays['users'], 'train': known}
  with_other_known = population._replace(arrays={**population.arrays, 'users': users})
  made = population, with_other_known, dinners(seed=1)
  conditions = [
    plan.Condition((functools.partial(lambda one: one, one),), changes={'number': number})
    for number, one in enumerate(made)
  ]
  result = table(conditions, workdir=tmp_path, log=said.append)
  # bayes_scores of the first two is one; bayes_features reads data, which have no hash here.
  assert said.count('bayes: 40 particles') == 5
  nll = results.select(result.frame, learner='bayes_scores', metric='nll')
  first, same, other = (own['value'].tolist() for _, own in nll.groupby('protocol'))
  assert first == same != other
  assert len(list(tmp_path.glob('predictions/*/bayes_scores-*/4.npz'))) == 3


@pytest.mark.parametrize('make', [dinners, toy.two_types])
def test_references_of_another_version_are_made_anew(make, monkeypatch):
  conditions = (plan.Condition((make,)),)
  evaluation = SMALL._replace(shots=(0, 4))
  [setting] = runner.prepare(plan.Plan({}, conditions, (make,), evaluation=evaluation))

  def digests():
    return {
      workdirs.digest(references.identity(name, setting, evaluation, make))
      for name in references.NAMES
    }

  before = digests()
  assert before == digests()
  monkeypatch.setattr(references, 'VERSION', references.VERSION + 1)
  assert not before & digests()


def test_seeds_are_averaged_and_shown():
  few = {'pooled': small_learners()['pooled']}
  result = runner.compare(
    few, toy.two_types(), shots=(0,), seeds=(0, 1), training=SHORT, evaluation=SMALL, log=quiet
  )
  own = results.select(result.frame, learner='pooled', metric='accuracy')
  values = own.set_index('seed')['value']
  np.testing.assert_allclose(values['all'], (values['0'] + values['1']) / 2)


def test_a_learner_without_steps_is_prepared_and_evaluated():
  def prepare(params, histories, key):
    del key
    assert histories.support.choice.shape == (64, 24)
    return {'w': params['w'] + 1}

  learner = meta_learner.from_adapt_score(
    lambda key: {'w': np.zeros(4, np.float32)},
    lambda params, support, context, key: (),
    lambda params, user_state, candidates: candidates.features @ params['w'],
    prepare=prepare,
  )
  entry = bench.Entry(lambda: learner, training=SHORT._replace(num_steps=0))
  result = runner.compare({'sum': entry}, toy.two_types(), shots=(0,), evaluation=SMALL, log=quiet)
  accuracy = results.select(result.frame, learner='sum', metric='accuracy')['value'].item()
  assert accuracy > 0.55


def test_more_shots_than_a_history_holds_are_refused():
  with pytest.raises(ValueError, match=r'shots must lie in 0\.\.8'):
    table(dinners(), shots=(0, 9))


def test_equal_entries_share_one_learner():
  spec = toy.two_types().spec
  entry = bench.Entry(learners.factory('cnp'), {'hidden': 8})
  assert plan.build(entry, spec) is plan.build(
    bench.Entry(learners.factory('cnp'), {'hidden': 8}), spec
  )
  assert plan.build(entry, spec) is not plan.build(entry._replace(kwargs={'hidden': 4}), spec)


def test_arrays_among_the_options_are_known_by_all_their_numbers():
  def directed(num_features, directions):
    del directions
    return learners.make('pooled', num_features=num_features)

  spec, first = toy.two_types().spec, np.zeros((50, 50))
  other = first.copy()
  other[25, 25] = 1  # a long array's text leaves it out
  made = [
    plan.build(bench.Entry(directed, {'directions': each}), spec)
    for each in (first, first.copy(), other)
  ]
  assert made[0] is made[1] is not made[2]


def test_equal_shapes_among_the_sizes_are_one_learner():
  def reading(features):
    del features
    return one_learner()

  first, same = (toy.two_types().spec for _ in range(2))
  entry = bench.Entry(reading)
  assert first.features is not same.features
  assert plan.build(entry, first) is plan.build(entry, same)


def test_shots_are_evaluated_from_the_least_on_whatever_their_order():
  evaluation = bench.Evaluation(shots=(16, 0, 4))
  spec = toy.two_types(num_support=8).spec
  assert plan.held_shots(evaluation, spec) == (0, 4, 16)
  assert plan.held_shots(evaluation._replace(cut_shots=True), spec) == (0, 4)


@pytest.mark.parametrize('part', ['score', 'sample'])
def test_every_program_of_a_learner_is_its_own(part):
  def twice(*given):
    return jax.tree.map(lambda x: 2 * x, getattr(one_learner(), part)(*given))

  tasks = fingerprints.train_tasks(toy.two_types())
  edited = one_learner()._replace(**{part: twice})
  assert fingerprints.of_learner(edited, tasks) != fingerprints.of_learner(one_learner(), tasks)


@pytest.mark.parametrize(
  'changed',
  [
    {'optimizer': lambda rate, num_steps: optax.sgd(rate)},
    {'optimizer': lambda rate, num_steps: optax.sgd(rate, momentum=0.9)},
    {'optimizer': functools.partial(SHORT.optimizer, clip_norm=2.0)},
    {'objective': objectives.cvar(0.5)},
    {'objective': objectives.cvar(0.25)},
  ],
)
def test_trainings_are_told_apart_by_what_they_compute(changed):
  params = one_learner().init(jax.random.key(0))
  found = [fingerprints.of_training(SHORT, params)]
  found += [fingerprints.of_training(SHORT._replace(**changed), params) for _ in range(2)]
  assert found[0] != found[1] == found[2]


def test_equal_programs_have_equal_fingerprints_in_another_process():
  code = (
    'from metapers import learners; from metapers.bench import fingerprints;'
    'from metapers.populations import toy;'
    'tasks = fingerprints.train_tasks(toy.two_types());'
    'print(fingerprints.of_learner(learners.make("maml", num_features=4, hidden=(8,)), tasks))'
  )
  found = [
    subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout
    for _ in range(2)
  ]
  assert found[0] == found[1]


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'conditions': (plan.Condition((dinners,)),) * 2}, 'conditions need names of their own'),
    ({'entries': {'bayes': plan.Entry(one_learner)}}, 'bayes: references have these names'),
    ({'evaluation': SMALL._replace(shots=(0, 4, 4))}, 'shots must differ'),
    ({'folds': (0, 1, 0)}, 'folds must differ'),
    ({'entries': {'cnp/64': plan.Entry(one_learner)}}, 'cnp/64: files have these names'),
    (
      {'conditions': (plan.Condition((dinners,), {'kwargs': 'a/b'}),)},
      'kwargs=a/b: files have these names',
    ),
    (
      {'conditions': (plan.Condition((dinners,), stream=plan.Stream(0, 0)),)},
      'shots of a stream are its turns',
    ),
    (
      {'entries': {'mine': plan.Entry(one_learner, training=SHORT._replace(shots=99))}},
      'mine: .*99',
    ),
    ({'entries': {'mine': plan.Entry(one_learner, {'width': 'x'})}}, 'mine: '),
  ],
)
def test_what_cannot_be_a_table_is_refused_before_users_are_drawn(changes, message):
  whole = plan.Plan(entries={}, conditions=(plan.Condition((dinners,)),), populations=(dinners,))
  with pytest.raises(ValueError, match=message):
    runner.check(whole._replace(**changes))


def test_bars_and_seconds_of_compilation_are_shown_of_what_is_made(tmp_path, capsys):
  workdir = tmp_path / 'workdir'
  result = table(toy.two_types(num_support=4), workdir=workdir)
  out, err = capsys.readouterr()
  assert not out
  for bar in ('learners', 'evaluation', 'references', 'pooled-0'):
    assert f'{bar}: 0' in err, bar
  assert 'cnp-0: goes on' not in err
  assert re.search(r'bayes, default: compiled in \d', err)
  assert re.search(r'cnp-0-20, default: compiled in \d', err)
  again = table(toy.two_types(num_support=4), workdir=workdir)
  assert 'compiled' not in capsys.readouterr().err
  assert again.frame.equals(result.frame)
