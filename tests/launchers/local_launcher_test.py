"""The local launcher from end to end, with fake commands."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

from launchers import jobs, pool, records, sweeps
from launchers.jobs import Job

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
HERE = pathlib.Path(__file__).parent


def arguments(folder, sweep, *more):
  (folder / 'config.py').touch()
  given = [f'--config={folder / "config.py"}', f'--workdir={folder / "root"}', f'--sweep={sweep}']
  return [sys.executable, '-m', 'launchers.local', '--module=fake_job', *given, *more]


def environment():
  return {**os.environ, 'PYTHONPATH': f'{ROOT}{os.pathsep}{HERE}'}


def launch(folder, sweep, *more):
  return subprocess.run(
    arguments(folder, sweep, *more),
    cwd=ROOT,
    env=environment(),
    capture_output=True,
    text=True,
    check=False,
  )


def starts(folder):
  found = (folder / 'root').glob('*/starts')
  return {path.parent.name.split('-')[0]: len(path.read_text().splitlines()) for path in found}


def test_jobs_run_once_and_are_told_to_have_finished(tmp_path):
  done = launch(tmp_path, 'grid:act=end;seed=0,1', '--workers=2')
  assert done.returncode == 0, done.stderr
  assert '2 finished, of 2' in done.stdout
  again = launch(tmp_path, 'grid:act=end;seed=0,1,2')
  assert '2 was finished, 1 finished, of 3' in again.stdout
  assert [len(path.read_text().split()) for path in tmp_path.glob('root/*/starts')] == [1, 1, 1]
  log = next((tmp_path / 'root' / 'logs').iterdir()).read_text()
  assert log.startswith(f'$ {sys.executable} -m fake_job --config=') and 'act end, start 1' in log


def test_an_edited_config_or_a_lost_workdir_is_run_again(tmp_path):
  launch(tmp_path, 'grid:act=end')
  (tmp_path / 'config.py').write_text('edited = True')
  launch(tmp_path, 'grid:act=end')
  assert starts(tmp_path) == {'act=end': 2}
  shutil.rmtree(next((tmp_path / 'root').glob('act=end-*')))
  launch(tmp_path, 'grid:act=end')
  assert starts(tmp_path) == {'act=end': 1}


def test_what_fails_is_retried_and_reported_with_its_last_words(tmp_path):
  done = launch(tmp_path, 'grid:act=end,fail,fail_once,refuse', '--retries=2')
  assert done.returncode == 1
  assert starts(tmp_path) == {'act=end': 1, 'act=fail': 3, 'act=fail_once': 2, 'act=refuse': 1}
  assert '2 finished, 2 failed, of 4' in done.stdout
  assert '  it went wrong\n' in done.stdout
  assert '  error: a mistake in the input\n' in done.stdout
  assert 'failed with 2' in done.stdout


def wait_for(condition, program):
  end = time.monotonic() + 60
  while not condition():
    assert program.poll() is None and time.monotonic() < end
    time.sleep(0.02)


@pytest.fixture
def heeds_signals():
  """What a shell or `nohup` starts in the background ignores some, and so does all it starts."""
  heeded = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
  before = {number: signal.signal(number, handler) for number, handler in heeded.items()}
  yield
  for number, handler in before.items():
    signal.signal(number, handler)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.usefixtures('heeds_signals')
def test_a_signal_lets_jobs_save_and_the_same_command_goes_on(tmp_path, number):
  given = arguments(tmp_path, 'grid:act=wait;seed=0,1,2', '--workers=2')
  program = subprocess.Popen(given, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True)
  wait_for(lambda: len(list(tmp_path.glob('root/*/starts'))) == 2, program)
  time.sleep(0.3)  # until both heed signals
  program.send_signal(number)
  printed, _ = program.communicate(timeout=60)
  assert program.returncode == 128 + number
  assert '2 stopped, 1 waiting, of 3' in printed
  assert 'the same command goes on where it stood' in printed
  assert len(list(tmp_path.glob('root/*/saved'))) == 2
  program = subprocess.Popen(given, cwd=ROOT, env=environment())
  wait_for(lambda: len(list(tmp_path.glob('root/*/starts'))) == 3, program)
  for path in tmp_path.glob('root/*/starts'):
    (path.parent / 'saved').touch()
  assert program.wait(timeout=60) == 0


def test_a_second_signal_ends_what_does_not_heed_the_first(tmp_path):
  given = arguments(tmp_path, 'grid:act=stubborn')
  program = subprocess.Popen(given, cwd=ROOT, env=environment())
  wait_for(lambda: list(tmp_path.glob('root/*/starts')), program)
  time.sleep(0.3)
  program.send_signal(signal.SIGTERM)
  time.sleep(0.5)
  assert program.poll() is None
  program.send_signal(signal.SIGTERM)
  assert program.wait(timeout=60) == 143


def test_what_must_clean_up_is_not_ended_by_a_second_signal(tmp_path):
  (tmp_path / 'config.py').touch()
  job = Job('fake_job', str(tmp_path / 'config.py'), {}, (), tmp_path / 'root')
  asked = []

  def show(shown):
    if (job.workdir / 'starts').exists() and len(asked) < 3:
      asked.append(signal.raise_signal(signal.SIGTERM))

  def command(job):
    cleans_up = 'trap "sleep 1; touch cleaned" TERM; touch starts; sleep 100 & wait'
    job.workdir.mkdir(parents=True)
    return ['sh', '-c', f'cd {job.workdir}; {cleans_up}']

  pool.run([job], command, workers=1, retries=0, show=show, ends_at_once=False)
  assert len(asked) == 3 and (job.workdir / 'cleaned').exists()


def test_a_dry_run_prints_and_starts_nothing(tmp_path):
  done = launch(tmp_path, 'seeds:2', '--dry_run', '--config.training.num_steps=4')
  assert done.returncode == 0
  lines = done.stdout.splitlines()
  assert len(lines) == 2 and not (tmp_path / 'root').exists()
  assert lines[1].startswith('python -m fake_job --config=')
  assert lines[1].endswith('--config.training.num_steps=4 --config.seed=1')


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    (['--worker=2'], "Unknown command line flag 'worker'"),
    (['--sweep=random:seed=1'], 'no sweep is written as'),
    (['--config=nowhere.py'], 'there is no config nowhere.py'),
    (['--workers=0'], 'workers'),
    (['more'], 'unknown arguments more'),
  ],
)
def test_mistakes_of_a_launch_are_one_line(tmp_path, given, message):
  done = launch(tmp_path, 'seeds:1', *given)
  assert done.returncode == 2
  assert done.stderr.startswith('error: ') and done.stderr.count('\n') == 1
  assert message in done.stderr and 'Traceback' not in done.stderr
  assert not (tmp_path / 'root').exists()


def test_what_was_launched_is_on_record(tmp_path):
  launch(tmp_path, 'grid:act=end,fail', '--retries=0')
  found = [json.loads(path.read_text()) for path in (tmp_path / 'root' / 'jobs').iterdir()]
  finished = {each['point']['act']: bool(each['finished']) for each in found}
  assert finished == {'end': True, 'fail': False}


def test_a_launcher_that_cannot_go_on_lets_what_runs_save(tmp_path, monkeypatch):
  (tmp_path / 'config.py').touch()
  like = Job('fake_job', str(tmp_path / 'config.py'), {}, (), tmp_path / 'root')
  made = jobs.of_sweep(sweeps.parse('grid:act=wait,end'), like)
  monkeypatch.setenv('PYTHONPATH', environment()['PYTHONPATH'])

  def command(job):
    return [sys.executable, *jobs.words(job)]

  def full(job):
    while not (made[0].workdir / 'starts').exists():
      time.sleep(0.02)
    time.sleep(0.3)
    raise OSError('No space left on device')

  monkeypatch.setattr(records, 'finish', full)
  with pytest.raises(OSError, match='No space'):
    pool.run(made, command, workers=2, retries=0, show=lambda shown: None)
  assert (made[0].workdir / 'saved').exists()
