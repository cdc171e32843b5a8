"""Two processes of one program, with two devices each, train as one does."""

import os
import pathlib
import signal
import socket
import sys

import jax
import layouts
import pytest

from metapers.io import processes
from metapers.io.writers import MetricsWriter, read_metrics

SECONDS = 240


def free_port():
  with socket.socket() as server:
    server.bind(('localhost', 0))
    return server.getsockname()[1]


@pytest.fixture(scope='module')
def interrupted(tmp_path_factory):
  """A workdir of two processes, the second of which got SIGTERM at step 4; exit codes, writers."""
  workdir, port = tmp_path_factory.mktemp('processes') / 'run', free_port()
  running = [
    layouts.elsewhere(__file__, workdir, port, number, num_devices=2) for number in range(2)
  ]
  try:
    codes = [process.wait(timeout=SECONDS) for process in running]
    return workdir, codes, sorted(path.name for path in workdir.parent.glob('writer_*'))
  finally:
    for process in running:
      process.kill()


def test_one_process_that_is_asked_to_stop_stops_all(interrupted):
  _, codes, _ = interrupted
  assert codes == [143, 143]


def test_only_the_first_process_writes_metrics(interrupted):
  workdir, _, writers = interrupted
  assert writers == ['writer_0']
  assert read_metrics(workdir)[-1]['step'] >= 6


def test_what_two_processes_wrote_one_goes_on_with(interrupted, tmp_path):
  workdir, *_ = interrupted
  resumed, plain = layouts.run(workdir), layouts.run(tmp_path)
  layouts.assert_close(layouts.named(resumed.params), layouts.named(plain.params))


def stopped(step):
  """Ends this process at a step as a scheduler would."""
  if step == 4:
    os.kill(os.getpid(), signal.SIGTERM)


def noted_writer(workdir, *, from_step):
  """Makes a writer, and a file that says which process did."""
  (workdir.parent / f'writer_{jax.process_index()}').touch()
  return MetricsWriter(workdir, from_step=from_step)


if __name__ == '__main__':
  workdir, port, number = pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:])
  jax.distributed.initialize(f'localhost:{port}', 2, number)
  assert jax.device_count() == 4 and processes.gather(number) == [0, 1]
  layouts.run(workdir, at_step=stopped if number == 1 else None, make_writer=noted_writer)
