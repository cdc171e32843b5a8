"""Jobs: names that stay, and the command that each is."""

import pathlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launchers import jobs, records, sweeps
from launchers.jobs import Job

ROOT = pathlib.Path(__file__).parents[2]
LIKE = Job('experiments.benchmark', 'configs/x.py:quick', {}, (), pathlib.Path('root'))
POINTS = st.dictionaries(st.text(min_size=1, max_size=9), st.text(max_size=99), max_size=3)


def test_a_name_is_of_the_job_and_of_nothing_else():
  job = LIKE._replace(point={'learner': 'cnp', 'seed': '0'})
  assert job.name == 'cnp-seed=0-0ec16386'
  moved = job._replace(root=pathlib.Path('/elsewhere'), resources=jobs.Resources(cpus=7))
  assert moved.name == job.name
  assert job._replace(point={'seed': '0', 'learner': 'cnp'}).name == job.name
  assert job._replace(config='./configs/x.py:quick').name == job.name
  for other in (
    job._replace(module='experiments.train'),
    job._replace(config='configs/x.py'),
    job._replace(point={'learner': 'cnp', 'seed': '1'}),
    job._replace(overrides=('--config.training.num_steps=4',)),
  ):
    assert other.digest != job.digest


def named(*overrides, **changes):
  return LIKE._replace(overrides=overrides, **changes).name


def test_of_a_field_given_twice_the_last_one_counts():
  name = named('--config.a=2', '--config.b=0')
  assert named('--config.a=1', '--config.b=0', '--config.a=2') == name
  assert named('--config.b=0', '--config.a', '1', '-config.a', '2') == name
  assert named('--config.a=2', '--config.a=1', '--config.b=0') != name


def test_flags_of_other_names_may_be_given_twice():
  assert len({named('--a=1', '--a=2'), named('--a=2', '--a=1'), named('--a=2')}) == 3


def test_a_switch_is_the_same_however_it_is_written():
  assert named('--noconfig.a') == named('--config.a=true', '--config.a=false')
  assert named('--config.a') == named('--noconfig.a', '--config.a=true')
  assert named('--config.a') != named('--noconfig.a')
  assert named('--config.nothing=1') != named('--config.thing=1')


def test_what_is_behind_the_colon_has_no_order():
  names = [named(config=f'x.py:{behind}') for behind in ('quick,learner=cnp', 'learner=cnp,quick')]
  assert names[0] == names[1] != named(config='x.py:quick')
  own = [named(config=f'x.py:{behind}', module='mine') for behind in ('a,b', 'b,a')]
  assert own[0] != own[1]  # a config of one's own may read it in order


def test_values_in_words_of_their_own_stay_with_their_flags():
  steps, batch = '--config.num_steps', '--config.batch_size'
  apart = [LIKE._replace(overrides=(steps, a, batch, b)) for a, b in (('100', '-1'), ('-1', '100'))]
  assert apart[0].digest != apart[1].digest
  assert apart[0].digest == LIKE._replace(overrides=(f'{batch}=-1', f'{steps}=100')).digest


@pytest.mark.parametrize('edited', ['', 'x', 'base', 'deep'])
def test_a_job_has_finished_with_the_config_that_it_began_with(tmp_path, edited):
  config = tmp_path / 'x.py'
  config.write_text('import os\nfrom configs import base, other\nfrom .deep import x\n')
  (tmp_path / 'base.py').write_text('from configs.deep import y')
  (tmp_path / 'deep.py').write_text('from configs import x')
  job = LIKE._replace(config=str(config), root=tmp_path, overrides=('--config.b=0', '--config.a=1'))
  job.workdir.mkdir()
  records.begin([job])
  if edited:
    (tmp_path / f'{edited}.py').write_text('edited = True')
  records.finish(job)
  same = job._replace(config=f'{tmp_path}/./x.py', overrides=job.overrides[::-1])
  assert [records.is_finished(each) for each in (job, same)] == 2 * [not edited]


@given(POINTS)
def test_any_point_has_a_name_that_a_folder_may_have(point):
  name = LIKE._replace(point=point).name
  assert re.fullmatch(r'[\w.=-]+', name, re.ASCII) and len(name) < 100
  assert not name.startswith('.')


def test_a_table_is_told_its_learners_and_seeds():
  job = LIKE._replace(point={'learner': 'cnp', 'seed': '1', 'training.num_steps': '5'})
  assert jobs.words(job) == [
    '-m',
    'experiments.benchmark',
    '--config=configs/x.py:quick',
    f'--workdir=root/{job.name}',
    '--config.benchmark.learners=cnp',
    '--config.benchmark.seeds=1',
    '--config.training.num_steps=5',
    '--wait',
  ]


@pytest.mark.parametrize('name', ['p_dpo', 'steer'])
def test_a_study_is_told_its_seeds(name):
  job = LIKE._replace(module=f'experiments.{name}', point={'seed': '3'})
  assert '--config.seeds=3' in jobs.words(job)
  assert 'config.seeds' in (ROOT / 'experiments' / f'{name}.py').read_text()


@pytest.mark.parametrize(
  ('config', 'told'), [('x.py', 'x.py:learner=cnp'), ('x.py:quick', 'x.py:quick,learner=cnp')]
)
def test_a_run_is_told_its_learner_behind_the_colon(config, told):
  job = LIKE._replace(
    module='experiments.train', config=config, point={'learner': 'cnp', 'seed': '1'}
  )
  made = jobs.words(job, workdir='there')
  assert made[2:] == [f'--config={told}', '--workdir=there', '--config.seed=1', '--wait']


@pytest.mark.parametrize('name', jobs.TRAINING)
def test_machines_that_train_together_are_told_so(name):
  job = LIKE._replace(module=f'experiments.{name}')
  assert jobs.trains(job)
  assert jobs.words(job, together=True) == [*jobs.words(job), '--distributed']
  assert 'parallel.begin()' in (ROOT / 'experiments' / f'{name}.py').read_text()


def test_what_trains_nothing_runs_on_one_machine():
  job = LIKE._replace(module='experiments.score')
  assert not jobs.trains(job)
  with pytest.raises(ValueError, match=r'experiments\.score runs on one machine; .* are train, '):
    jobs.words(job, together=True)
  own = LIKE._replace(module='mine')
  assert jobs.words(own, together=True) == jobs.words(own)


def test_two_points_of_one_job_are_one_job():
  sweep = ({'seed': '0'}, {'seed': '0'}, {'seed': '1'})
  assert [job.point['seed'] for job in jobs.of_sweep(sweep, LIKE)] == ['0', '1']


def test_fields_and_what_stands_behind_two_dashes_are_passed_on():
  own, passed = jobs.divide(
    ['--workers=2', '--config=x.py', '--config.seed=1', '--noconfig.is_on', '--', '--debug', 'b']
  )
  assert own == ['--workers=2', '--config=x.py']
  assert passed == ['--config.seed=1', '--noconfig.is_on', '--debug', 'b']


def test_a_sweep_of_nothing_is_refused():
  with pytest.raises(ValueError, match='no points'):
    jobs.refuse_unknown(jobs.of_sweep(sweeps.grid({'seed': []}), LIKE))
  with pytest.raises(ValueError, match=r'no config configs/x\.py'):
    jobs.refuse_unknown([LIKE])
