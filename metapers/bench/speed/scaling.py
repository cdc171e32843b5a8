"""How the time of a batch grows in users, comparisons and features."""

import math
from collections.abc import Sequence

import numpy as np

from metapers.bench.speed import ours, workload
from metapers.bench.speed.worker import CLOCKS
from metapers.bench.speed.workload import Case
from metapers.io import panels
from metapers.io.panels import Line
from metapers.io.plots import Figure

BASE = Case('maml', 10, (), users=10_000, query=8)
USERS = (1_000, 10_000, 100_000, 1_000_000)
COMPARISONS = (8, 32, 128, 512)
FEATURES = (16, 64, 256, 1024)
TRIALS = 2
AXES = {'users': 'users', 'query': 'comparisons of a user', 'features': 'features'}


def cases(most_users: int = USERS[-1]) -> dict[str, list[Case]]:
  """Returns the cases along each axis, in which one size grows and the others stay."""
  fewer = BASE._replace(users=min(1_000, most_users))
  return {
    'users': [BASE._replace(users=users) for users in USERS if users <= most_users],
    'query': [fewer._replace(support=count // 2, query=count // 2) for count in COMPARISONS],
    'features': [fewer._replace(features=features) for features in FEATURES],
  }


def seconds(case: Case, clock: str) -> float:
  """Returns the least seconds of a step, after a first."""
  now, found = CLOCKS[clock], []
  step = ours.prepare(case, workload.make(case))
  step()
  for _ in range(TRIALS):
    start = now()
    step()
    found.append(now() - start)
  return min(found)


def size_of(case: Case, axis: str) -> int:
  """Returns the size of a case along an axis."""
  sizes = {'users': case.users, 'query': case.support + case.query, 'features': case.features}
  return sizes[axis]


def power(sizes: Sequence[int], times: Sequence[float]) -> float:
  """Returns p of time ∝ size^p between the two largest sizes."""
  return math.log(times[-1] / times[-2]) / math.log(sizes[-1] / sizes[-2])


def figure(found: dict[str, tuple[list[int], list[float]]]) -> Figure:
  """Returns the time of a batch by each size, on logarithmic axes, beside a linear growth."""
  drawn = []
  for axis, (sizes, times) in found.items():
    at, value = np.array(sizes, float), 1e3 * np.array(times)
    nothing = np.full_like(at, np.nan)
    linear = value[-1] * at / at[-1]
    series = {'measured': Line(at, value, nothing), 'in proportion': Line(at, linear, nothing)}
    draw = panels.lines(
      series, AXES[axis], 'milliseconds a batch', is_log=True, is_log_y=True, ticks=sizes
    )
    drawn.append(panels.Panel(draw, AXES[axis]))
  return panels.figure(drawn, title='Time of loss and gradient, linear utility, five inner steps')
