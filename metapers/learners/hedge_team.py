"""Who is averaged in a hedge: members, the user's own fit, and who speaks for the population."""

from collections.abc import Sequence
from typing import NamedTuple

from metapers.core.meta_learner import MetaLearner
from metapers.core.types import Any
from metapers.learners import inner, options
from metapers.learners import own_fit as own_fits
from metapers.learners.prequential import Groups

OWN = 'own'


class Seat(NamedTuple):
  """A member, and the row of the one whose parameters it has: its own, but for `own`."""

  row: str
  member: MetaLearner
  source: str


def made_of(members: dict[str, Any], sizes: dict[str, Any]) -> dict[str, MetaLearner]:
  """Returns the members that have parameters, in the order of their rows.

  Args:
    members: row -> options of the learner, and its `name`, where it is not that of the row.
    sizes: of the population, of which a member is given those it asks for.

  Raises:
    ValueError: as `inner.made`.
  """
  # Configs and JSON keep no order, and the prior is stored without names.
  return {row: inner.named(given, sizes, row) for row, given in sorted(members.items())}


def seats_of(made: dict[str, MetaLearner], own_from: str, own_scale: float) -> tuple[Seat, ...]:
  """Returns the members that have parameters, and the user's own fit that starts from one of them.

  Raises:
    ValueError: without members, for one named as the own fit, or a start that is not there.
  """
  team = tuple(Seat(row, member, row) for row, member in made.items())
  if not team or OWN in made:
    raise ValueError(
      f'members must be one or more rows, none of them {OWN!r}, which own_from makes; got '
      f'{", ".join(made) or "none"}'
    )
  if not own_from:
    return team
  if own_from not in made:
    raise ValueError(
      f"own_from must be '' or one of the members {', '.join(made)}, got {own_from!r}"
    )
  options.positive(own_scale=own_scale)
  return (*team, Seat(OWN, own_fits.own_fit(made[own_from], scale=own_scale), own_from))


def groups_of(team: Sequence[Seat], outside: Sequence[str]) -> Groups:
  """Returns which members describe users of the population, and which others.

  Raises:
    ValueError: for a row that is no member, or if none describes the population.
  """
  rows = [one.row for one in team]
  inside = tuple(rows.index(row) for row in rows if row not in (*outside, OWN))
  if not set(outside) <= set(rows) or not inside:
    raise ValueError(
      f'outside must name some of the members {", ".join(rows)}, and leave one that describes the '
      f'population; got {", ".join(outside)}'
    )
  return Groups(inside, tuple(n for n in range(len(rows)) if n not in inside))
