"""What machines that are made for a job run on it: an install of the clone, then the command."""

import pathlib
import shlex

from launchers import jobs as of_jobs
from launchers.jobs import Job

CLONE = 'metapers'  # folder on the machine, in its home
SENT = ('Makefile', 'README.md', 'LICENSE', 'setup.py', 'constraints.txt', 'constraints-3.12.txt',
        'pyproject.toml', 'metapers', 'experiments', 'launchers')  # fmt: skip
PYTHON = '3.12'
LONGEST = 40  # readable part of a machine's name
NFS_OPTIONS = 'nfsvers=3,hard'  # locks of workdirs hold between machines


def install(backend: str) -> list[str]:
  """Returns the lines of a shell that install the clone in the folder where they are.

  Args:
    backend: what JAX is installed for: 'tpu', 'cuda12' or, for CPUs alone, ''.
  """
  return [
    'curl -LsSf https://astral.sh/uv/install.sh | sh',  # images hold Pythons that are too old
    f'~/.local/bin/uv python install {PYTHON}',
    f'make install BACKEND={backend} PYTHON=$(~/.local/bin/uv python find {PYTHON})',
  ]


def mount(share: str, folder: str) -> list[str]:
  """Returns the lines that mount a share of files at a folder, or make the folder without one.

  Args:
    share: 'host:/path' of NFS.
    folder: made if missing, for everybody to write.
  """
  if not share:
    return [f'sudo mkdir -p {folder}', f'sudo chmod a+rwx {folder}']
  place = f'{shlex.quote(share)} {folder}'
  return [
    'sudo apt-get install -y -qq nfs-common',
    f'sudo mkdir -p {folder}',
    f'{{ mountpoint -q {folder} || sudo mount -t nfs -o {NFS_OPTIONS} {place}; }}',
    f'sudo chmod a+rwx {folder}',
  ]


def command(job: Job, folder: str, *, together: bool) -> str:
  """Returns the command of a job, run in the clone.

  Args:
    job: to be run.
    folder: on the machine, in which its workdir is.
    together: it is started on all machines of the job.
  """
  words = of_jobs.words(job, workdir=f'{folder}/{job.name}', together=together)
  return shlex.join(['.venv/bin/python', *words])


def machine_name(job: Job) -> str:
  """Returns a name for the machine of a job: lower case, letters, digits and hyphens."""
  readable = job.name.lower().removesuffix(job.digest)[:LONGEST]
  kept = ''.join(letter if letter.isalnum() else '-' for letter in readable)
  return f'm-{kept.strip("-")}-{job.digest}'


def require_config_inside(job: Job) -> None:
  """Refuses a config that is not sent along with the clone.

  Raises:
    ValueError: naming it.
  """
  path = of_jobs.config_path(job.config)
  if path.is_absolute() or pathlib.PurePath(path).parts[0] not in SENT:
    raise ValueError(f'{path} is not sent to the machine: put it into experiments/configs')
