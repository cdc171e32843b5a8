"""Commands as a user types them, in forks of one process: to import takes longer than to run."""

import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[2]
TINY = (  # flags that make any run one of seconds
  '--config.training.num_steps=4',
  '--config.training.steps_per_call=2',
  '--config.training.evaluate_every=2',
  '--config.training.batch_size=8',
  '--config.training.chunk_size=8',
  '--config.evaluation.num_users=6',
  '--config.evaluation.num_validation_users=4',
  '--config.evaluation.num_particles=20',
  '--config.evaluation.num_resamples=20',
  '--config.population.kwargs.num_held_out=6',
)
# No command is imported before the fork, for each defines flags of the same names.
SERVER = """
import json, os, runpy, sys
from experiments import build, commands
from metapers import bench
from metapers.bench import asking_report, freezing, scoring
for line in sys.stdin:
  folder, name, arguments, environment = json.loads(line)
  child = os.fork()
  if not child:
    for number, file in ((1, 'stdout'), (2, 'stderr')):
      os.dup2(os.open(os.path.join(folder, file), os.O_WRONLY | os.O_CREAT), number)
    os.environ.update(environment)
    sys.argv = [name, *arguments]
    runpy.run_module(f'experiments.{name}', run_name='__main__', alter_sys=True)
    sys.exit()
  status = os.waitpid(child, 0)[1]
  print(os.waitstatus_to_exitcode(status), flush=True)
"""


class Done(NamedTuple):
  returncode: int
  stdout: str
  stderr: str


@functools.cache
def server():
  """Returns the process that forks; it ends with this one, whose end closes its input."""
  return subprocess.Popen(
    [sys.executable, '-c', SERVER],
    cwd=ROOT,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  )


def command(name, *arguments):
  """Runs `python -m experiments.NAME ARGUMENTS` in the root of the repository."""
  process = server()
  with tempfile.TemporaryDirectory() as folder:
    environment = {**os.environ, 'JAX_PLATFORMS': 'cpu'}  # of now, not of the server's start
    sent = folder, name, list(map(str, arguments)), environment
    process.stdin.write(json.dumps(sent) + '\n')
    process.stdin.flush()
    returncode = int(process.stdout.readline())
    stdout, stderr = ((pathlib.Path(folder) / name).read_text() for name in ('stdout', 'stderr'))
  return Done(returncode, stdout, stderr)
