"""What a launcher keeps of each job beside its workdir: what it is, and whether it has finished."""

import ast
import datetime
import hashlib
import pathlib
from collections.abc import Iterable
from typing import Any

from launchers import jobs as of_jobs
from launchers.jobs import Job
from metapers.core import files

FOLDER = 'jobs'  # of the root of a sweep; `experiments.gather` reads it


def path_of(job: Job) -> pathlib.Path:
  """Returns where the record of a job is."""
  return job.root / FOLDER / f'{job.name}.json'


def log_of(job: Job) -> pathlib.Path:
  """Returns where the job's own words go."""
  return job.root / 'logs' / f'{job.name}.log'


def content_of(job: Job) -> dict[str, Any]:
  """Returns the record of a job that has not finished."""
  read = sorted(sources(of_jobs.config_path(job.config), set()))
  content = b'\0'.join(path.read_bytes() for path in read)
  return {
    **job.identity,
    'config_sha256': hashlib.sha256(content).hexdigest(),
    'finished': '',
  }


def sources(config: pathlib.Path, seen: set[pathlib.Path]) -> set[pathlib.Path]:
  """Returns a config and the files of its folder that it imports, and they in turn."""
  seen.add(config)
  for node in ast.walk(ast.parse(config.read_bytes())):
    if isinstance(node, ast.Import | ast.ImportFrom):
      dotted = [getattr(node, 'module', None) or '', *(alias.name for alias in node.names)]
      for name in (each.rpartition('.')[2] for each in dotted):
        path = config.with_name(f'{name}.py')
        if path not in seen and path.is_file():
          sources(path, seen)
  return seen


def begin(jobs: Iterable[Job]) -> None:
  """Writes the records of jobs that are about to be started, so that missing ones can be told."""
  for job in jobs:
    if not is_finished(job):
      files.write_json(path_of(job), content_of(job))


def finish(job: Job) -> None:
  """Notes that a job ended well, with the config as it was when the job was begun."""
  now = datetime.datetime.now().astimezone().isoformat(timespec='seconds')
  begun = files.read_json(path_of(job))
  files.write_json(path_of(job), {**begun, 'finished': now})


def is_finished(job: Job) -> bool:
  """Tells whether a job ended well; not, where its workdir is gone or its config was edited."""
  if not (job.workdir.is_dir() and path_of(job).exists()):
    return False
  found = files.read_json(path_of(job))
  return bool(found.get('finished')) and found | {'finished': ''} == content_of(job)
