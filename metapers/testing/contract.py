"""The contract: what any MetaLearner must do, for CI and for notebooks.

    contract.check(my_learner(num_features=4))

Each claim is a function of a `Subject` that raises AssertionError saying what broke.
"""

import sys
import time

import jax
import tqdm

from metapers.core.meta_learner import MetaLearner
from metapers.core.types import Callable
from metapers.io import progress as bars
from metapers.testing import checks, learning_checks
from metapers.testing.subject import Exceptions, Subject, subject

__all__ = ['CHECKS', 'Exceptions', 'Subject', 'check', 'subject']

CHECKS: tuple[Callable[[Subject], None], ...] = (
  checks.state_shapes_do_not_depend_on_data,
  checks.probabilities_sum_to_one,
  checks.padding_changes_nothing,
  checks.order_changes_nothing,
  checks.empty_support_is_finite,
  checks.masked_nan_reaches_nothing,
  checks.jit_and_vmap_change_nothing,
  learning_checks.gradient_reaches_parameters,
  learning_checks.finite_differences_agree,
  learning_checks.training_learns,
  learning_checks.same_key_gives_same_bits,
  learning_checks.checkpoint_keeps_every_bit,
  checks.candidates_permute,
  learning_checks.flipped_labels_move_predictions_the_other_way,
  checks.samples_agree_with_predictions,
  checks.weight_two_is_the_comparison_twice,
  checks.weight_zero_is_a_masked_comparison,
  checks.context_is_accepted,
  checks.start_and_prepare_keep_forms,
  checks.update_equals_adapt,
)


def check(
  learner: MetaLearner,
  excused: Exceptions | None = None,
  *,
  num_context: int = 0,
  progress: bool = True,
) -> None:
  """Returns None if a learner keeps the contract; promotion of ranks is forbidden as in the tests.

  Args:
    learner: built with num_features=4 (and num_users=64, num_histories=64, where it asks for them).
    excused: what it is excused from; by default nothing.
    num_context: C, the width of the contexts that it is built for.
    progress: whether to show a bar, and print a line for each claim, with the seconds it took.

  Raises:
    AssertionError: naming the claim that failed, and by how much.
  """
  report = _progress() if progress else lambda claim: None
  with jax.numpy_rank_promotion('raise'):
    it = subject(learner, excused or Exceptions(), num_context=num_context)
    report('a short training')
    for claim in bars.along(CHECKS, 'contract', unit='claim', label=in_words, shown=progress):
      name = in_words(claim)
      try:
        claim(it)
      except AssertionError as error:
        raise AssertionError(f'{name}: {error}') from error
      report(name)


def in_words(claim: Callable[[Subject], None]) -> str:
  """Returns the name of a claim as a sentence."""
  return claim.__name__.replace('_', ' ')


def _progress() -> Callable[[str], None]:
  last = time.perf_counter()

  def report(done: str) -> None:
    nonlocal last
    now = time.perf_counter()
    tqdm.tqdm.write(f'{done:<48} {now - last:5.1f} s', file=sys.stdout)
    sys.stdout.flush()
    last = now

  return report
