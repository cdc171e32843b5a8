"""Adapting very many users in one call of the personaliser, in a process of its own.

    python -m metapers.bench.speed.adapting MODEL NUM_USERS CLOCK

prints what `adapt` returns, as a line of JSON.
"""

import json
import sys
from typing import NamedTuple

import jax
import numpy as np

from metapers import learners
from metapers.bench.speed import memory
from metapers.bench.speed.worker import CLOCKS
from metapers.core import population
from metapers.io import leaves
from metapers.serving import personalizer
from metapers.serving.exports import Export
from metapers.serving.personalizer import Personalizer

NUM_SHOTS, NUM_FEATURES = 8, 10
MIB = 2**20
PRETRAINED = 'personal_llm_scores'
MODELS = (PRETRAINED, 'bayes_head')


class Adapted(NamedTuple):
  """What adapting took.

  users_per_second: with all that is checked and scaled. compile_seconds: of the first block.
  given_mib, kept_mib: of the comparisons given and of the profiles returned. beside_mib: the most
  that was held while adapting, beside both.
  """

  users_per_second: float
  compile_seconds: float
  given_mib: float
  kept_mib: float
  beside_mib: float


def model_of(name: str) -> Personalizer:
  """Returns the shipped model, or any learner as it starts.

  Raises:
    ValueError: for an unknown learner.
  """
  if name == PRETRAINED:
    return Personalizer.load_pretrained(name)
  params = learners.make(name, num_features=NUM_FEATURES).init(jax.random.key(0))
  kwargs = {'num_features': NUM_FEATURES}
  return Personalizer(
    Export(name, kwargs, leaves.named(params), 2, population.unscaled(NUM_FEATURES))
  )


def adapt(name: str, num_users: int, clock: str) -> Adapted:
  """Returns what adapting a model to users of eight comparisons each takes.

  Args:
    name: of MODELS, or of another learner.
    num_users: in one call.
    clock: of `worker.CLOCKS`.
  """
  model, now = model_of(name), CLOCKS[clock]
  random = np.random.default_rng(0)
  shape = (2, num_users, NUM_SHOTS, NUM_FEATURES)
  chosen, rejected = random.standard_normal(shape, np.float32)
  given = personalizer.pairs(chosen, rejected)
  start = now()
  model.adapt(given._replace(features=given.features[:1], choice=given.choice[:1]))
  compiled = now()
  # All blocks have the shape of the first of many.
  few = min(num_users, 4096)
  model.adapt(given._replace(features=given.features[:few], choice=given.choice[:few]))
  before = memory.held()
  memory.forget_most()
  begun = now()
  profile = model.adapt(given)
  seconds = now() - begun
  kept = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(profile[:3])) / MIB
  own = sum(np.asarray(leaf).nbytes for leaf in (given.features, given.choice)) / MIB
  beside = memory.most() - before - kept
  return Adapted(num_users / seconds, compiled - start, own, kept, beside)


if __name__ == '__main__':
  print(json.dumps(adapt(sys.argv[1], int(sys.argv[2]), sys.argv[3])._asdict()))
