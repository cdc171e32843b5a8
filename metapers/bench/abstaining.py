"""What rules of abstention give: how much they answer, and how much of it is right, of users who
came about as those of calibration did, and of others.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from metapers.bench.stopping import Sure
from metapers.core import task
from metapers.core.meta_learner import MetaLearner
from metapers.core.task import Candidates, Choices, Task
from metapers.core.types import PRNGKey
from metapers.evaluation import abstention, adaptation, metrics
from metapers.evaluation.abstention import Abstention, Observed

SHOTS = (0, 2, 4, 8, 16)


def table(
  rows: Mapping[str, Sure],
  people: Task,
  shifted: Mapping[str, Task],
  *,
  num_calibration: int = 1000,
  shots: Sequence[int] = SHOTS,
  accuracy: float = 0.9,
  level: float = 0.9,
  key: PRNGKey,
) -> pd.DataFrame:
  """Returns what a rule for each learner and number of shots gives each sort of users.

  Args:
    rows: learners by name.
    people: T users, of whom the first calibrate the rules and the others show what they give.
    shifted: users of other sorts by name, of whom the rules claim nothing.
    num_calibration: how many calibrate.
    shots: L numbers of comparisons.
    accuracy: see `abstention.calibrate`.
    level: likewise.
    key: of what is random in adapting.

  Returns:
    Columns learner; people, '' as calibrated; shots; threshold, NaN where no prediction is given;
    claimed, the accuracy, NaN where nothing is claimed; answered, the share of queries; right, that
    of the answers; right_half, half its 95 % interval over users.

  Raises:
    ValueError: as `abstention.calibrate` and `adaptation.evaluate`.
  """
  size = people.user.shape[0]
  first, rest = jnp.arange(num_calibration), jnp.arange(num_calibration, size)
  num_candidates = people.query.candidates.mask.shape[-1]
  found = []
  for name, sure in rows.items():
    known, new = (observed(sure, task.take(people, part), shots, key) for part in (first, rest))
    rules = [
      abstention.calibrate(
        one, shots=k, accuracy=accuracy, level=level, num_candidates=num_candidates
      )
      for k, one in zip(shots, known)
    ]
    others = {sort: observed(sure, tasks, shots, key) for sort, tasks in shifted.items()}
    for sort, users in {'': new, **others}.items():
      found += [{'learner': name, **row(rule, one, sort)} for rule, one in zip(rules, users)]
  return pd.DataFrame(found)


def observed(sure: Sure, tasks: Task, shots: Sequence[int], key: PRNGKey) -> list[Observed]:
  """Returns what a learner predicts of users and what they chose, for each number of shots."""
  learner, params, chunk_size = sure
  predictions = adaptation.evaluate(
    learner, params, tasks, shots=shots, chunk_size=chunk_size, key=key
  )
  seen = jax.device_get(metrics.numerators(predictions, tasks))['query']
  weight = np.asarray(metrics.denominators(tasks)['query'].weight)
  return [Observed(*each, weight) for each in zip(seen['confidence'], seen['accuracy'])]


def row(rule: Abstention, users: Observed, people: str) -> dict[str, Any]:
  """Returns what a rule gives users, `people` where it claims nothing of them."""
  return {
    'people': people,
    'shots': rule.shots,
    'threshold': np.nan if rule.threshold is None else rule.threshold,
    'claimed': np.nan if people else rule.accuracy,
    **abstention.answered(rule, users)._asdict(),
  }


def blind(learner: MetaLearner, feature: int) -> MetaLearner:
  """Returns the learner, which has D - 1 features, for users of D: it does not see one of them."""

  def of(candidates: Candidates) -> Candidates:
    return candidates._replace(features=jnp.delete(candidates.features, feature, -1))

  def compared(choices: Choices) -> Choices:
    return choices._replace(candidates=of(choices.candidates))

  update = learner.update
  return learner._replace(
    adapt=lambda params, support, *given: learner.adapt(params, compared(support), *given),
    score=lambda params, state, shown: learner.score(params, state, of(shown)),
    predict=lambda params, state, shown: learner.predict(params, state, of(shown)),
    update=update
    and (lambda params, state, new, *given: update(params, state, compared(new), *given)),
  )
