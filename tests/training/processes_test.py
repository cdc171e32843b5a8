"""Two processes of one program, with two devices each, train as one does."""

import os
import pathlib
import signal
import socket
import sys
import time

import jax
import layouts
import numpy as np
import optax
import pytest

from metapers import learners
from metapers.io import processes
from metapers.io.writers import MetricsWriter, read_metrics
from metapers.populations import toy
from metapers.training import devices, meta_training, objectives

SECONDS = 400
SCHEDULE = layouts.SCHEDULE._replace(num_steps=60)  # JAX looks for signals once a second


def free_port():
  with socket.socket() as server:
    server.bind(('localhost', 0))
    return server.getsockname()[1]


@pytest.fixture(scope='module')
def interrupted(tmp_path_factory):
  """A workdir of two processes, the second of which got SIGTERM at step 4; exit codes."""
  workdir, port = tmp_path_factory.mktemp('processes') / 'run', free_port()
  running = [
    layouts.elsewhere(__file__, workdir, port, number, num_devices=2) for number in range(2)
  ]
  try:
    return workdir, [process.wait(timeout=SECONDS) for process in running]
  finally:
    for process in running:
      process.kill()


def test_one_process_that_is_asked_to_stop_stops_all(interrupted):
  workdir, codes = interrupted
  assert codes == [143, 143]
  assert 4 < read_metrics(workdir)[-1]['step'] < SCHEDULE.num_steps


def test_only_the_first_process_writes_metrics(interrupted):
  workdir, _ = interrupted
  assert [path.name for path in workdir.parent.glob('writer_*')] == ['writer_0']


def test_what_two_processes_wrote_one_goes_on_with(interrupted, tmp_path):
  workdir, _ = interrupted
  resumed, plain = layouts.run(workdir, SCHEDULE), layouts.run(tmp_path, SCHEDULE)
  layouts.assert_close(layouts.named(resumed.params), layouts.named(plain.params))


@pytest.mark.parametrize('kind', devices.PARALLEL)
def test_users_of_two_processes_train_as_those_of_one(interrupted, kind):
  workdir, _ = interrupted
  with np.load(workdir.parent / f'{kind}.npz') as found:
    layouts.assert_close(dict(found), trained(devices.placement()))


def trained(placement):
  """Returns parameters of a learner trained for three steps on the worst users, by name."""
  result = meta_training.meta_train(
    learners.make('maml', num_features=4, hidden=(3,), inner_steps=1),
    toy.two_types(num_support=2, num_query=2),
    meta_training.Training(
      num_steps=3,
      batch_size=8,
      steps_per_call=3,
      objective=objectives.cvar(0.4),
      optimizer=lambda *_: optax.sgd(0.1),  # Adam blows rounding up
    ),
    placement=placement,
    progress=False,
  )
  return {name: np.asarray(leaf) for name, leaf in layouts.named(result.params).items()}


def stopped(step):
  """Ends the second process at a step as a scheduler would; both are slow from then on."""
  if step == 4 and jax.process_index() == 1:
    os.kill(os.getpid(), signal.SIGTERM)
  if step >= 4:
    time.sleep(0.5)


def noted_writer(workdir, *, from_step):
  """Makes a writer, and a file that says which process did."""
  (workdir.parent / f'writer_{jax.process_index()}').touch()
  return MetricsWriter(workdir, from_step=from_step)


if __name__ == '__main__':
  workdir, port, number = pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:])
  jax.distributed.initialize(f'localhost:{port}', 2, number)
  assert jax.device_count() == 4 and processes.gather(number) == [0, 1]
  for kind in devices.PARALLEL:
    params = trained(devices.placement(kind))
    if number == 0:
      np.savez(workdir.parent / f'{kind}.npz', **params)
  layouts.run(workdir, SCHEDULE, at_step=stopped, make_writer=noted_writer)
