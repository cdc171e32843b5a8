"""Options that the factories of learners refuse."""


def at_least_one(**given: int) -> None:
  """Raises ValueError for counts below 1.

  Raises:
    ValueError: naming the option and what was given.
  """
  for name, value in given.items():
    if value < 1:
      raise ValueError(f'{name} must be at least 1, got {value}')


def positive(**given: int | float) -> None:
  """Raises ValueError for numbers that are not above 0.

  Raises:
    ValueError: naming the option and what was given.
  """
  for name, value in given.items():
    if not value > 0:
      raise ValueError(f'{name} must be positive, got {value}')


def not_negative(**given: int | float) -> None:
  """Raises ValueError for numbers below 0.

  Raises:
    ValueError: naming the option and what was given.
  """
  for name, value in given.items():
    if not value >= 0:
      raise ValueError(f'{name} must be at least 0, got {value}')


def share(**given: int | float) -> None:
  """Raises ValueError for shares that are 0 or 1 or beyond.

  Raises:
    ValueError: naming the option and what was given.
  """
  for name, value in given.items():
    if not 0 < value < 1:
      raise ValueError(f'{name} must lie between 0 and 1, both excluded, got {value}')


def known_users(learner: str, num_users: int) -> None:
  """Refuses a population without known users, of whom a learner keeps a table.

  Raises:
    ValueError: naming the learner.
  """
  if num_users < 1:
    raise ValueError(
      f'{learner} fits a table of known users, and this population has none: set its num_users '
      '(a finite pool) to at least 1'
    )
