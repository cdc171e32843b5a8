"""A trained learner as one file that PyTorch runs, without JAX and without metapers.

  model = Personalizer.load_pretrained()
  torch_program.write(model.export, 'ada.pt2', num_comparisons=16, num_questions=8)

and where it is served:

  program = torch.export.load('ada.pt2').module()
  utilities, probabilities = program(features, shown, choice, weight, candidates, real)

Needs PyTorch: `pip install 'metapers[torch]'`.
"""

import io
import json
import os
import pathlib
import warnings
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core import files, masked
from metapers.core.population import Scaling
from metapers.core.task import Candidates
from metapers.core.types import Any, Callable
from metapers.io import leaves
from metapers.learners import Factory
from metapers.serving import comparisons as border
from metapers.serving import exports
from metapers.serving import questions as serving
from metapers.serving.exports import Export

try:
  import torch
except ModuleNotFoundError as error:
  raise ModuleNotFoundError(
    "a program of PyTorch needs PyTorch: pip install 'metapers[torch]'", name='torch'
  ) from error

from metapers.serving import torch_operations

FORMAT, VERSION = 'metapers-torch-program', 1
HEADER = 'metapers.json'  # inside of the file
INPUTS = ('features', 'shown', 'choice', 'weight', 'candidates', 'real', 'context')
TOLERANCE = 1e-5  # of probabilities, and of utilities beside the larger of 1 and themselves


class Program(torch.nn.Module):
  """A traced function of scaled features, on raw ones."""

  def __init__(self, traced: Any, scaling: Scaling):
    super().__init__()
    self._traced = traced
    mean, scale = (torch.tensor(np.asarray(part, np.float64)) for part in scaling)
    self.register_buffer('mean', mean)
    self.register_buffer('scale', scale)

  def forward(self, features, shown, choice, weight, candidates, real, *context):
    """Returns utilities and probabilities, see `write`."""
    kept = self._scaled(features, shown).half().float()  # as a profile holds them
    given = kept, shown, choice, weight, self._scaled(candidates, real), real, *context
    return tuple(map(torch_operations.tensor, torch_operations.run(self._traced, given)))

  def _scaled(self, features, shown):
    zero = torch.zeros((), dtype=features.dtype)
    return torch.where(shown[..., None], (features - self.mean) / self.scale, zero).float()


def write(
  export: Export,
  path: str | os.PathLike,
  *,
  num_comparisons: int = 16,
  num_questions: int = 16,
  learner: Factory | None = None,
) -> pathlib.Path:
  """Writes a learner as a program of PyTorch, atomically, and returns the path.

  It takes tensors of one user: features [N, K, D], raw float64; shown [N, K], which candidates are
  real, none in what pads N; choice [N] int32; weight [N] float32; candidates [M, K, D], raw
  float64; real [M, K]; and, of a learner that reads one, context [C] float32. It returns utilities
  [M, K] in logits, and choice probabilities [M, K]; 0 where a candidate is not real. They are those
  of `Personalizer.score` and, of two candidates, `.probability`: before the file is written, what
  PyTorch and JAX give for random numbers is compared. Loops are unrolled, so that a learner that
  takes many steps for a user makes a large file.

  Args:
    export: the trained learner; K, D and C are its own.
    path: ends in `.pt2`.
    num_comparisons: N, the most that are known of a user.
    num_questions: M, answered in one call.
    learner: factory of a learner that is not in `learners.LEARNERS`.

  Raises:
    ValueError: for sizes below 1, another ending, a learner that reads ties, an operation that is
      not known in PyTorch, or results that differ by more than TOLERANCE.
  """
  path = pathlib.Path(path)
  if path.suffix != '.pt2':
    raise ValueError(f'PyTorch reads programs from files that end in .pt2, got {path.name}')
  if export.outcomes:
    raise ValueError(
      f'this {export.learner} reads answers beside a choice ({", ".join(export.outcomes)}), and a '
      'program does not: serve it by the Personalizer, or train with ties=dropped'
    )
  if num_comparisons < 1 or num_questions < 1:
    raise ValueError(
      'num_comparisons and num_questions must be at least 1, got '
      f'{num_comparisons} and {num_questions}'
    )
  function = adapt_score(export, learner)
  given = drawn(export, num_comparisons, num_questions)
  as_read = scaled(export, given)
  module = Program(jax.make_jaxpr(function)(*as_read), export.scaling)
  tensors = tuple(map(torch.tensor, given))
  with torch.no_grad(), warnings.catch_warnings():
    warnings.simplefilter('ignore')  # of PyTorch's own code
    program = torch.export.export(module.eval(), tensors)
    check(program.module()(*tensors), jax.device_get(jax.jit(function)(*as_read)))
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={HEADER: json.dumps(header(export, given))})
  return files.write_atomically(path, content.getvalue())


def adapt_score(export: Export, learner: Factory | None) -> Callable[..., Any]:
  """Returns `(features, shown, choice, weight, candidates, real, context) -> utilities [M, K],
  probabilities [M, K]` of features as the learner reads them.
  """
  made = exports.learner_of(exports.check_export('the export', export), learner)
  params = leaves.rebuild(export.params, jax.eval_shape(made.init, jax.random.key(0)))
  adapt = serving.questions(made).adapt

  def function(features, shown, choice, weight, candidates, real, context=None):
    known = jnp.zeros(0, jnp.float32) if context is None else context
    state = adapt(params, serving.Support(features, shown, choice, weight, known))
    query = Candidates(candidates, real)
    probabilities = jnp.exp(made.predict(params, state, query))
    return masked.fill(made.score(params, state, query), real), masked.fill(probabilities, real)

  return function


def drawn(export: Export, num_comparisons: int, num_questions: int) -> tuple[np.ndarray, ...]:
  """Returns random inputs, half of whose comparisons are real, NaN where nothing is."""
  rng = np.random.default_rng(0)
  mean, scale = export.scaling
  sizes = [(size, export.num_candidates) for size in (num_comparisons, num_questions)]
  features, candidates = (mean + scale * rng.normal(size=(*size, mean.size)) for size in sizes)
  shown, real = (np.ones(size, bool) for size in sizes)
  shown[(num_comparisons + 1) // 2 :] = False
  shown[0, 2:] = real[0, 2:] = False
  features[~shown], candidates[~real] = np.nan, np.nan
  choice = rng.integers(0, 2, num_comparisons).astype(np.int32)
  weight = rng.uniform(0.5, 2, num_comparisons).astype(np.float32)
  context = rng.normal(size=export.num_context).astype(np.float32)
  given = features, shown, choice, weight, candidates, real
  return (*given, context) if export.num_context else given


def scaled(export: Export, given: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
  """Returns inputs with features as a profile and a query hold them."""
  features, shown, choice, weight, candidates, real, *context = given
  kept = border.scale(features, shown, export).astype(np.float16)
  return kept, shown, choice, weight, border.scale(candidates, real, export), real, *context


def check(found: Sequence[torch.Tensor], expected: Sequence[np.ndarray]) -> None:
  """Refuses results that are not those of JAX.

  Raises:
    ValueError: naming what differs, and by how much.
  """
  for name, mine, theirs in zip(('utilities', 'probabilities'), found, expected):
    error = np.abs(mine.numpy() - theirs) / np.maximum(1, np.abs(theirs))
    if not (error <= TOLERANCE).all():
      raise ValueError(
        f'{name} of the program and of JAX differ by {error.max():.2g}, more than {TOLERANCE}: '
        'serve this learner by the Personalizer'
      )


def header(export: Export, given: Sequence[np.ndarray]) -> dict[str, Any]:
  """Returns what the file says of itself, as JSON values."""
  return {
    'format': FORMAT,
    'version': VERSION,
    'model': exports.fingerprint(export),
    'learner': export.learner,
    'about': export.about,
    'feature_names': list(export.feature_names),
    'inputs': {name: [str(x.dtype), *x.shape] for name, x in zip(INPUTS, given)},
  }
