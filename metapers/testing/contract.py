"""The contract: what any MetaLearner must do, for CI and for notebooks.

    contract.check(my_learner(num_features=4))

Each claim is a function of a `Subject` that raises AssertionError saying what broke.
"""

import jax

from metapers.core.meta_learner import MetaLearner
from metapers.core.types import Callable
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
  learning_checks.checkpoint_keeps_predictions,
  checks.candidates_permute,
  learning_checks.flipped_labels_move_predictions_the_other_way,
  checks.samples_agree_with_predictions,
)


def check(learner: MetaLearner, excused: Exceptions | None = None) -> None:
  """Runs every check on a learner, with silent promotion of ranks forbidden as in the tests.

  Args:
    learner: built with num_features=4 (and num_users=64, if it keeps a table of known users).
    excused: what it is excused from; by default nothing.

  Raises:
    AssertionError: naming the check that failed, and by how much.
  """
  with jax.numpy_rank_promotion('raise'):
    it = subject(learner, excused or Exceptions())
    for claim in CHECKS:
      try:
        claim(it)
      except AssertionError as error:
        raise AssertionError(f'{claim.__name__}: {error}') from error
