"""What `experiments.extract --benchmark` measures: invariance of scores, and throughput.

Tiny random models of five families stand in for reward models; the texts are those of the config's
source, or made up with lengths like real answers'.
"""

import pathlib
import tempfile
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments import commands
from metapers.data import reward_scorer
from metapers.data.reward_models import CHAT, PAIR, RewardModel
from metapers.data.reward_scorer import Options, Scorer
from metapers.data.texts import Texts
from metapers.testing import tiny_models

TOLERANCE = 1e-5  # of a float32 score, from that of batch size 1
GOALS = {512: 1.3, 2048: 1.8}  # tokens -> texts a second by length, over those in file order
NUM_TEXTS, NUM_INVARIANCE, BATCH_SIZE, ROUNDS = 256, 33, 16, 3


class Pairs(NamedTuple):
  """Prompts and responses, and where they are from."""

  prompts: Sequence[str]
  responses: Sequence[str]
  source: str


def run(read: Texts | None) -> None:
  """Prints all measurements.

  Raises:
    ValueError: naming what was missed.
  """
  missed = []
  with tempfile.TemporaryDirectory() as folder:
    for family in tiny_models.FAMILIES:
      missed += invariance(family, pathlib.Path(folder) / family)
    pairs = pairs_of(read)
    commands.say(f'throughput of a tiny llama on {len(pairs.prompts)} texts: {pairs.source}')
    for max_length, goal in GOALS.items():
      missed += throughput(pathlib.Path(folder) / 'pieces', pairs, max_length, goal)
  if missed:
    raise ValueError(f'missed: {"; ".join(missed)}')


def invariance(family: str, folder: pathlib.Path) -> list[str]:
  """Prints how far scores in batches are from those one by one; in bfloat16, too."""
  template = PAIR if family == 'deberta-v2' else CHAT
  model = RewardModel(family, tiny_models.save(folder, family), template=template)
  prompts, responses = tiny_models.texts(NUM_INVARIANCE)
  alone = np.asarray(Scorer(model, Options(batch_size=1))(prompts, responses).scores)
  drift = {}
  for dtype in ('float32', 'bfloat16'):
    scorer = Scorer(model, Options(dtype=dtype, batch_size=NUM_INVARIANCE))
    drift[dtype] = np.abs(np.asarray(scorer(prompts, responses).scores) - alone).max()
  commands.say(
    f'{family:12} sd of scores {alone.std():.2f}; from batch size 1 in float32: float32 '
    f'{drift["float32"]:.1e}, bfloat16 {drift["bfloat16"]:.1e}'
  )
  if drift['float32'] > TOLERANCE:
    return [f'{family} drifts by {drift["float32"]:.1e}, more than {TOLERANCE:g}']
  return []


def pairs_of(read: Texts | None) -> Pairs:
  """Takes texts of a source, in its own order, or makes some up."""
  if read is None:
    rng = np.random.default_rng(0)
    lengths = rng.lognormal(np.log(1300), 0.8, NUM_TEXTS).astype(int).clip(20, 8000)
    return Pairs(
      ['question'] * NUM_TEXTS, ['x' * n for n in lengths], 'made up, log-normal lengths'
    )
  num_prompts = -(-NUM_TEXTS // read.responses.shape[1])
  responses = read.responses[:num_prompts]
  prompts = np.broadcast_to(read.prompts[:num_prompts, None], responses.shape)
  return Pairs(prompts.ravel().tolist(), responses.ravel().tolist(), 'of the source')


def throughput(folder: pathlib.Path, pairs: Pairs, max_length: int, goal: float) -> list[str]:
  """Prints texts a second with batches by length and in file order, measured in turns."""
  model = RewardModel('llama', tiny_models.save(folder, 'llama', width=64, pieces=True))
  options = Options(max_length=max_length, batch_size=BATCH_SIZE)
  scorers = [Scorer(model, options._replace(bucket=bucket)) for bucket in (True, False)]
  encoded = [scorers[0].encode(*pair)[0] for pair in zip(pairs.prompts, pairs.responses)]
  lengths = np.array([len(one.ids) for one in encoded])
  seconds = np.zeros((ROUNDS, 2))
  for turn in range(ROUNDS):
    for kind, scorer in enumerate(scorers):
      start = time.perf_counter()
      for rows in reward_scorer.batches(lengths, BATCH_SIZE, bucket=scorer.options.bucket):
        scorer.run([encoded[row] for row in rows])
      seconds[turn, kind] = time.perf_counter() - start
  by_length, in_order = len(lengths) / np.median(seconds, 0)
  ratio = by_length / in_order
  commands.say(
    f'at most {max_length:4} tokens (median {np.median(lengths):.0f}): {by_length:.0f} texts/s by '
    f'length, {in_order:.0f} in file order: {ratio:.2f} times'
  )
  return [] if ratio >= goal else [f'{ratio:.2f} times at {max_length} tokens, goal {goal}']
