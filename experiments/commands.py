"""What the commands share: workdirs are held, and mistakes in the input are one line."""

import contextlib
import errno
import importlib.metadata
import importlib.util
import logging as stdlib_logging
import os
import pathlib
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import jax
import tqdm
from absl import app, flags, logging

from metapers.core import files
from metapers.io import processes, workdirs

WAIT = flags.DEFINE_bool('wait', False, 'Wait for another process that writes the workdir.')
HELP = ('help', 'helpshort', 'helpfull')
MISTAKES = (ValueError, FloatingPointError, OSError)
PASSING = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT)  # of a share of files that is away for a while
DISK_FULL = (
  'no space is left on the disk (or within the quota): free some, and the same command goes on '
  'from the newest checkpoint, which is kept'
)
LOST = (
  'another process of this job has ended or cannot be reached, and this one ends, too: the same '
  'command, started on all machines, goes on from the newest checkpoint'
)
LONGEST_DETAIL = 200  # letters
OPTIMIZATION_LEVEL = 'xla_backend_optimization_level'
# Of compiled programs: bytes of all, of which the longest unused go first, and seconds of one.
CACHE = {
  'jax_compilation_cache_max_size': 2**30, 'jax_persistent_cache_min_compile_time_secs': 0.05,
}  # fmt: skip
# What a config file or an override of an unknown field raises while flags are parsed.
FLAG_MISTAKES = (flags.Error, ValueError, KeyError, AttributeError, TypeError, OSError)


def say(text: str) -> None:
  """Prints a line of the command's result; of several processes the first one does."""
  if processes.are_several() and not processes.is_first():
    return
  tqdm.tqdm.write(text, file=sys.stdout)  # above a bar, where there is one
  sys.stdout.flush()


def one_line(error: Exception) -> str:
  """Returns an error's message without line breaks.

  ml_collections wraps a config file's own error into its traceback: then the last line is it.
  """
  text = str(error).strip()
  if 'Traceback' in text:
    text = text.splitlines()[-1].removeprefix('ValueError: ')
  return ' '.join(text.split())


def fail(error: Exception) -> NoReturn:
  """Reports a mistake in one line on stderr and exits with 2, or 1 for what may pass by itself."""
  sys.stderr.write(f'error: {one_line(error)}\n')
  is_passing = isinstance(error, ConnectionError | TimeoutError)
  processes.end(1 if is_passing or getattr(error, 'errno', None) in PASSING else 2)


def required(flag: flags.FlagHolder) -> Any:
  """Returns the value of a flag.

  Raises:
    ValueError: if it was not given.
  """
  if flag.value is None:
    raise ValueError(f'--{flag.name} is needed; see --help')
  return flag.value


def alone(error: Exception) -> NoReturn:
  """Ends one of several processes, for an error that is its own or that of a lost other one."""
  text = one_line(error)
  if isinstance(error, jax.errors.JaxRuntimeError) and 'RESOURCE_EXHAUSTED' not in text:
    sys.stderr.write(f'error: {LOST} ({text[:LONGEST_DETAIL]})\n')
  else:
    traceback.print_exception(error)
  processes.end(1)


def holding(workdir: str | os.PathLike) -> contextlib.AbstractContextManager[None]:
  """Holds a workdir while a command writes it; with --wait, once it is free."""
  return workdirs.holding(workdir, waits=WAIT.value)


def no_arguments(argv: Sequence[str]) -> None:
  """Refuses words that are no flags.

  Raises:
    ValueError: naming them.
  """
  if len(argv) > 1:
    raise ValueError(f'unknown arguments {" ".join(argv[1:])}; options are given as --name=value')


def parse_flags(argv: list[str]) -> list[str]:
  """Parses flags; a mistake, an unknown config field among them, is one line and exit code 2."""
  try:
    return flags.FLAGS(argv)
  except FLAG_MISTAKES as error:
    fail(error)


def add_to_help(guide: Callable[[], str]) -> None:
  """Adds to what `--help` prints, which absl fills in where it reads `%s`."""
  document = sys.modules['__main__']
  try:
    document.__doc__ = f'{document.__doc__}{guide().replace("%", "%%")}'
  except FLAG_MISTAKES as error:
    fail(error)


def keep_compiled() -> None:
  """Keeps what takes 0.05 seconds to compile for later commands, in the user's cache folder.

  JAX's own settings go before: JAX_COMPILATION_CACHE_DIR is another place, and
  JAX_ENABLE_COMPILATION_CACHE=false none. A folder that cannot be written keeps nothing.
  """
  for name, value in CACHE.items():
    if name.upper() not in os.environ:
      jax.config.update(name, value)
  if 'JAX_COMPILATION_CACHE_DIR' in os.environ:
    return
  home = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  folder = pathlib.Path(home) / 'metapers' / 'compiled'
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError:
    return
  if os.access(folder, os.W_OK):
    jax.config.update('jax_compilation_cache_dir', str(folder))


def compile_sooner() -> None:
  """Asks less of XLA's compiler on a CPU: a quarter less time, of programs that run as fast.

  Where there may be an accelerator nothing is asked, for the flag is for all devices; XLA_FLAGS of
  the environment goes before.
  """
  given = os.environ.get('XLA_FLAGS', '')
  plugins = importlib.metadata.entry_points(group='jax_plugins')
  has_accelerator = bool(plugins) or importlib.util.find_spec('libtpu') is not None
  are_flags = not given or given.lstrip().startswith('--')  # else the name of a file of them
  if are_flags and not has_accelerator and OPTIMIZATION_LEVEL not in given:
    os.environ['XLA_FLAGS'] = f'{given} --{OPTIMIZATION_LEVEL}=1'.strip()


def _is_news(record: stdlib_logging.LogRecord) -> bool:
  # Each of orbax's threads logs the traceback of a full disk, which is then said in one line.
  error = record.exc_info[1] if record.exc_info else None
  return not (files.is_disk_full(error) or files.is_disk_full(Exception(record.getMessage())))


def run(main: Callable[[list[str]], None], guide: Callable[[], str] | None = None) -> None:
  """Runs a command; a mistake in its input is one line on stderr and exit code 2.

  Args:
    main: takes what is left of the command line after the flags, the program's name first.
    guide: makes what is added to the help.
  """
  if guide and any(word.lstrip('-') in HELP for word in sys.argv[1:]):
    add_to_help(guide)
  keep_compiled()
  compile_sooner()
  logging.set_verbosity(logging.WARNING)  # orbax tells of every file at INFO
  logging.get_absl_logger().addFilter(_is_news)

  def guarded(argv: list[str]) -> None:
    try:
      main(argv)
    except Exception as error:
      if files.is_disk_full(error):
        fail(OSError(DISK_FULL))
      if isinstance(error, MISTAKES):
        fail(error)
      if not processes.are_several():
        raise
      alone(error)
    except KeyboardInterrupt:
      sys.stderr.write('interrupted; the same command goes on where it stood\n')
      sys.exit(128 + signal.SIGINT)

  app.run(guarded, flags_parser=parse_flags)
