"""Whether scores depend on the batch, and how fast they are, of tiny random models.

Models of five families stand in for reward models; the texts are given, or made up with lengths
like those of real answers. Needs torch.
"""

import pathlib
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from metapers.data import reward_scorer
from metapers.data.reward_models import CHAT, PAIR, Options, RewardModel
from metapers.data.reward_scorer import Scorer
from metapers.data.texts import Texts
from metapers.testing import tiny_models

TOLERANCE = 1e-5  # of a float32 score, from that of batch size 1
GOALS = {512: 1.3, 2048: 1.8}  # tokens -> texts a second by length, over those in file order
NUM_TEXTS, NUM_INVARIANCE, BATCH_SIZE, ROUNDS = 256, 33, 16, 3


class TextPairs(NamedTuple):
  """N pairs of a prompt and a response, and one line on where they are from."""

  prompts: Sequence[str]
  responses: Sequence[str]
  source: str


class Throughput(NamedTuple):
  """Texts a second with batches of like length and in file order, at a median length in tokens."""

  by_length: float
  in_order: float
  median_length: float


def run_benchmark(read: Texts | None = None, log: Callable[[str], None] = print) -> None:
  """Measures everything, with a line of `log` for each measurement.

  Args:
    read: the texts whose scoring is timed; None makes some up.
    log: called with each line.

  Raises:
    ValueError: naming the goals that were missed.
  """
  missed = []
  with tempfile.TemporaryDirectory() as folder:
    for family in tiny_models.FAMILIES:
      missed += _check_invariance(family, pathlib.Path(folder) / family, log)
    pairs = text_pairs(read)
    log(f'throughput of a tiny llama on {len(pairs.prompts)} texts: {pairs.source}')
    for max_length, goal in GOALS.items():
      missed += _check_throughput(pathlib.Path(folder) / 'pieces', pairs, max_length, goal, log)
  if missed:
    raise ValueError(f'missed: {"; ".join(missed)}')


def _check_invariance(family: str, folder: pathlib.Path, log: Callable[[str], None]) -> list[str]:
  alone, drift = invariance(family, folder)
  log(
    f'{family:12} sd of scores {alone.std():.2f}; from batch size 1 in float32: float32 '
    f'{drift["float32"]:.1e}, bfloat16 {drift["bfloat16"]:.1e}'
  )
  if drift['float32'] > TOLERANCE:
    return [f'{family} drifts by {drift["float32"]:.1e}, more than {TOLERANCE:g}']
  return []


def invariance(family: str, folder: pathlib.Path) -> tuple[np.ndarray, dict[str, float]]:
  """Returns scores one by one, and the largest distance of scores in a batch by their dtype."""
  template = PAIR if family == 'deberta-v2' else CHAT
  model = RewardModel(family, tiny_models.save_model(folder, family), template=template)
  prompts, responses = tiny_models.draw_texts(NUM_INVARIANCE)
  alone = np.asarray(Scorer(model, Options(batch_size=1))(prompts, responses).scores)
  drift = {}
  for dtype in ('float32', 'bfloat16'):
    scorer = Scorer(model, Options(dtype=dtype, batch_size=NUM_INVARIANCE))
    drift[dtype] = float(np.abs(np.asarray(scorer(prompts, responses).scores) - alone).max())
  return alone, drift


def text_pairs(read: Texts | None) -> TextPairs:
  """Returns texts in their own order, or made up ones."""
  if read is None:
    rng = np.random.default_rng(0)
    lengths = rng.lognormal(np.log(1300), 0.8, NUM_TEXTS).astype(int).clip(20, 8000)
    return TextPairs(
      ['question'] * NUM_TEXTS, ['x' * n for n in lengths], 'made up, log-normal lengths'
    )
  num_prompts = -(-NUM_TEXTS // read.responses.shape[1])
  responses = read.responses[:num_prompts]
  prompts = np.broadcast_to(read.prompts[:num_prompts, None], responses.shape)
  return TextPairs(prompts.ravel().tolist(), responses.ravel().tolist(), 'of the source')


def _check_throughput(
  folder: pathlib.Path, pairs: TextPairs, max_length: int, goal: float, log: Callable[[str], None]
) -> list[str]:
  found = throughput(folder, pairs, max_length)
  ratio = found.by_length / found.in_order
  log(
    f'at most {max_length:4} tokens (median {found.median_length:.0f}): {found.by_length:.0f} '
    f'texts/s by length, {found.in_order:.0f} in file order: {ratio:.2f} times'
  )
  return [] if ratio >= goal else [f'{ratio:.2f} times at {max_length} tokens, goal {goal}']


def throughput(folder: pathlib.Path, pairs: TextPairs, max_length: int) -> Throughput:
  """Returns the throughput of a tiny llama, both ways measured in turns."""
  model = RewardModel('llama', tiny_models.save_model(folder, 'llama', width=64, pieces=True))
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
  return Throughput(float(by_length), float(in_order), float(np.median(lengths)))
