"""What the commands share: how a mistake in their input is told."""

import sys
from collections.abc import Callable

from absl import app


def one_line(error: Exception) -> str:
  """Returns an error's message without line breaks."""
  return ' '.join(str(error).split())


def run(main: Callable[[list[str]], None]) -> None:
  """Runs a command; a ValueError is one line on stderr and exit code 2, any other is a traceback.

  Args:
    main: takes what is left of the command line after the flags, the program's name first.
  """

  def guarded(argv: list[str]) -> None:
    try:
      main(argv)
    except ValueError as error:
      sys.stderr.write(f'error: {one_line(error)}\n')
      sys.exit(2)

  app.run(guarded)
