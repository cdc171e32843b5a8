"""Options that the factories of learners refuse."""


def at_least_one(**given: int) -> None:
  """Raises ValueError for counts below 1.

  Raises:
    ValueError: naming the option and what was given.
  """
  for name, value in given.items():
    if value < 1:
      raise ValueError(f'{name} must be at least 1, got {value}')


def positive(**given: float) -> None:
  """Raises ValueError for numbers that are not above 0.

  Raises:
    ValueError: naming the option and what was given.
  """
  for name, value in given.items():
    if not value > 0:
      raise ValueError(f'{name} must be positive, got {value}')
