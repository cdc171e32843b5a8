"""A workdir belongs to one run, or to one table, which may grow: another would be mixed with it."""

import collections
import contextlib
import datetime
import hashlib
import json
import os
import pathlib
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import filelock

from metapers.core import files
from metapers.io import processes

# Where data lie: what they are is compared by their hash.
PATHS = ('population.kwargs.path', 'population.kwargs.store', 'model.folder', 'data.folder')
# What of `evaluation` makes a run: by what its parameters are chosen.
CHOSEN_BY = ('evaluation.num_validation_users', 'evaluation.validation_shots')
OF_TABLE = ('kind', 'protocol', 'population', 'population_source', 'trained_on')
RUNS = 'runs'  # of a table
MOST_NAMES = 40  # of runs in a message
LOCK, HOLDER = '.lock', '.holder.json'
# What is there before the first checkpoint of a run, and before the first cell of a table.
BEFORE_WORK = (
  'config.json', 'metrics.jsonl', 'tensorboard', 'frozen', 'leaks', 'reference', LOCK, HOLDER,
)  # fmt: skip
SOURCES = '_source', '_sources'  # hashes of files that learners and populations are from
EXTENDABLE = 'training.num_steps'  # of a run, which may be trained for longer
Compared = Callable[[Mapping[str, Any]], Mapping[str, Any]]


@contextlib.contextmanager
def holding(workdir: str | os.PathLike | None, *, waits: bool = False) -> Iterator[None]:
  """Holds a workdir while it is written; the same process may hold it again.

  A kill lets go of it. Of several processes that run one program together the first one holds it.

  Args:
    workdir: made if missing, and removed again, with parents that were made for it, if nothing was
      written; None holds nothing.
    waits: until another process lets go, in place of an error.

  Raises:
    ValueError: for a workdir that another process holds, saying which.
  """
  if workdir is None or not processes.is_first():
    yield
    return
  folder = pathlib.Path(workdir)
  if folder.exists() and not folder.is_dir():
    raise ValueError(f'{folder} is a file; give a folder, or a name that is free')
  lock, made = _acquire(folder, waits)
  try:
    if lock.lock_counter == 1:
      now = datetime.datetime.now().astimezone().isoformat(timespec='seconds')
      holder = {'host': socket.gethostname(), 'process': os.getpid(), 'since': now}
      files.write_json(folder / HOLDER, holder)
    yield
  finally:
    try:
      if lock.lock_counter == 1:
        _let_go(folder, made)
    finally:
      lock.release()


def _let_go(folder: pathlib.Path, made: Iterable[pathlib.Path]) -> None:
  (folder / HOLDER).unlink(missing_ok=True)
  if [entry.name for entry in folder.glob('*')] == [LOCK]:
    # While it is held: whoever opened this file meanwhile finds that it has no name any more.
    (folder / LOCK).unlink()
    files.remove_empty(made)


def _acquire(folder: pathlib.Path, waits: bool) -> tuple[filelock.BaseFileLock, list[pathlib.Path]]:
  """Returns the lock of a folder, held, and the folders that were made for it."""
  while True:
    made = files.make_folders(folder)
    lock = filelock.FileLock(folder.absolute() / LOCK, is_singleton=True)
    try:
      lock.acquire(timeout=-1 if waits else 0)
      return lock, made
    except FileNotFoundError:
      continue  # another process was refused what it wanted, and removed the folder
    except filelock.Timeout as error:
      raise ValueError(
        f'{folder} is being written by {_holder(folder)}: wait for it to end, or give --wait'
      ) from error


def _holder(folder: pathlib.Path) -> str:
  try:
    found = files.read_json(folder / HOLDER)
  except ValueError:  # it has just begun, or just ended
    return 'another process'
  return 'process {process} on {host}, since {since}'.format_map(
    collections.defaultdict(str, found)
  )


def of_run(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what makes a run: all but where its data lie, and who is evaluated how afterwards."""
  return {
    name: value
    for name, value in flat(config).items()
    if name in CHOSEN_BY or not (name in (*PATHS, 'protocol') or name.startswith('evaluation.'))
  }


def of_table(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what makes a table; its learners, seeds, conditions and shots may become others."""
  return {
    name: value
    for name, value in flat(config).items()
    if name.partition('.')[0] in OF_TABLE and name not in PATHS
  }


def content_of(paths: Iterable[str | os.PathLike]) -> str:
  """Returns a hash of files, by their names and what they hold, wherever they lie.

  Raises:
    ValueError: for a file that is missing.
  """
  found = {}
  for path in sorted(map(files.regular, paths)):
    with path.open('rb') as file:
      found[path.name] = hashlib.file_digest(file, 'sha256').hexdigest()
  return files.sha256(json.dumps(found).encode())


def digest(values: Mapping[str, Any]) -> str:
  """Returns eight hex digits of the sha256 of JSON values, for names of files."""
  return files.sha256(json.dumps(values, sort_keys=True).encode())[:8]


def digest_of_run(config: Mapping[str, Any]) -> str:
  """Returns the digest of what makes a run, however long it is trained."""
  made = of_run(config)
  return digest({name: made[name] for name in made if not f'.{name}'.endswith(f'.{EXTENDABLE}')})


def claim(
  workdir: str | os.PathLike, config: Mapping[str, Any], compared: Compared = of_run
) -> dict[str, Any]:
  """Takes a folder for a config, or makes sure that one that holds work belongs to it.

  A folder holds work from its first checkpoint or finished cell on.

  Args:
    workdir: made if missing; `config.json` in it says whose it is.
    config: nested dicts of plain values.
    compared: what must be alike of two configs, flat; EXTENDABLE may grow.

  Returns:
    The config as JSON gives it back (tuples are lists).

  Raises:
    ValueError: if the folder belongs to another config, showing the differences, or holds
      something else.
  """
  if processes.is_first():
    check_claim(workdir, config, compared)
    files.write_json(pathlib.Path(workdir) / 'config.json', config)
  processes.wait_for_all('claim')
  return verify_config(workdir, config, compared)


def check_claim(
  workdir: str | os.PathLike, config: Mapping[str, Any], compared: Compared = of_run
) -> None:
  """Refuses a folder that `claim` would refuse, and writes nothing.

  Raises:
    ValueError: as `claim`.
  """
  folder = pathlib.Path(workdir)
  path = folder / 'config.json'
  if folder.exists() and not folder.is_dir():
    raise ValueError(f'{folder} is a file; give a folder, or a name that is free')
  if path.exists():
    if holds_work(folder):
      verify_config(folder, config, compared)
  elif folder.exists() and not all(_is_leftover(entry) for entry in folder.iterdir()):
    raise ValueError(f'{folder} is not empty and holds no config.json; give an empty workdir')


def holds_work(workdir: str | os.PathLike) -> bool:
  """Tells whether a workdir has a checkpoint or a finished cell, or what is not of a workdir."""

  def is_work(entry: pathlib.Path) -> bool:
    if entry.name in BEFORE_WORK or _is_leftover(entry):
      return False
    if entry.is_dir() and entry.name == 'checkpoints':
      return any(step.name.isdigit() for step in entry.iterdir())  # others are saves cut short
    if entry.is_dir() and entry.name == RUNS:
      return any(map(holds_work, entry.iterdir()))
    return True

  folder = pathlib.Path(workdir)
  return not folder.is_dir() or any(map(is_work, folder.iterdir()))


def verify_config(
  workdir: str | os.PathLike, config: Mapping[str, Any], compared: Compared = of_run
) -> dict[str, Any]:
  """Returns a config as `claim` does, if the folder belongs to it; takes and writes nothing.

  Raises:
    ValueError: if it belongs to another config, or to none.
  """
  wanted = json.loads(json.dumps(config))
  compare_configs(workdir, compared(read_config(workdir)), compared(wanted))
  return wanted


def read_config(workdir: str | os.PathLike) -> dict[str, Any]:
  """Returns the config of a workdir.

  Raises:
    ValueError: where there is none, or it is not JSON.
  """
  return files.read_json(pathlib.Path(workdir) / 'config.json', 'run')


def require_run(workdir: str | os.PathLike) -> None:
  """Refuses the workdir of a table where one of a run is needed.

  Raises:
    ValueError: naming the runs in it.
  """
  runs = sorted(path.parent.name for path in (pathlib.Path(workdir) / RUNS).glob('*/config.json'))
  if runs:
    more = f' and {len(runs) - MOST_NAMES} more' if len(runs) > MOST_NAMES else ''
    raise ValueError(
      f'{workdir} is of a table; give one of its runs, {pathlib.Path(workdir) / RUNS}/NAME: '
      f'{", ".join(runs[:MOST_NAMES])}{more}'
    )


def compare_configs(
  workdir: str | os.PathLike, before: Mapping[str, Any], after: Mapping[str, Any]
) -> None:
  """Refuses a config that differs in what matters.

  Args:
    workdir: for the message.
    before: what was compared of the old config, flat.
    after: the same of the new one.

  Raises:
    ValueError: listing every field that differs, with both values.
  """
  different = []
  for name in sorted(set(before) | set(after)):
    was, now = before.get(name, 'absent'), after.get(name, 'absent')
    if was == now:
      continue
    if f'.{name}'.endswith(f'.{EXTENDABLE}') and isinstance(was, int) and isinstance(now, int):
      if now > was:
        continue
      different.append(f'{name}: {was} there, {now} now (a run can be extended, not shortened)')
    elif name.partition('.')[0].endswith(SOURCES):
      different.append(f'{name}: the code of the file is another than it was then')
    else:
      different.append(f'{name}: {was} there, {now} now')
  if different:
    raise ValueError(
      f'{workdir} holds a run of another config ({"; ".join(different)}); '
      'give another workdir, or the same config'
    )


def _is_leftover(entry: pathlib.Path) -> bool:
  # Of a process killed before its config.json had its name.
  return entry.name.startswith('.config.json.') or entry.name in (LOCK, HOLDER)


def flat(tree: Mapping[str, Any]) -> dict[str, Any]:
  """Returns nested names joined by dots; an empty mapping stays, for its name says something."""
  found: dict[str, Any] = {}
  for name, value in tree.items():
    if isinstance(value, Mapping) and value:
      found |= {f'{name}.{rest}': each for rest, each in flat(value).items()}
    else:
      found[name] = {} if isinstance(value, Mapping) else value
  return found
