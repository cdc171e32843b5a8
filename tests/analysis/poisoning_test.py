import numpy as np
import pytest

from metapers.analysis import poisoning

SHARES = np.array([0.0, 0.1, 0.2, 0.4])


def test_the_share_is_where_the_line_between_measurements_reaches_the_cost():
  losses = np.array([0.0, 0.004, 0.012, 0.05])
  assert poisoning.share_that_costs(SHARES, losses, 0.01) == pytest.approx(0.1 + 0.1 * 6 / 8)


def test_a_later_recovery_does_not_move_the_first_crossing():
  losses = np.array([0.0, 0.02, 0.0, 0.03])
  assert poisoning.share_that_costs(SHARES, losses, 0.01) == pytest.approx(0.05)


def test_what_never_costs_as_much_has_no_share():
  assert poisoning.share_that_costs(SHARES, np.array([0, 0.001, -0.2, 0.009]), 0.01) == np.inf


@pytest.mark.parametrize(('shares', 'cost'), [(SHARES[::-1], 0.01), (SHARES, 0.0)])
def test_shares_rise_and_a_cost_is_positive(shares, cost):
  with pytest.raises(ValueError, match='must rise'):
    poisoning.share_that_costs(shares, np.zeros(4), cost)
