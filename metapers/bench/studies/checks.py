"""The checks of a store that is PersonalLLM, as a part of the page."""

from collections.abc import Sequence

from metapers.analysis import study_frame
from metapers.analysis.personal_llm_checks import Verdict
from metapers.analysis.study_frame import Cell, Whose
from metapers.bench.studies.part import Part
from metapers.io.report import Table

TITLE = 'Checks against what is published of PersonalLLM'
WORDS = {True: 'passed', False: 'FAILED', None: 'not made'}


def part_of(verdicts: Sequence[Verdict]) -> Part:
  """Returns the part of the page."""
  failed = [verdict.check for verdict in verdicts if verdict.passed is False]
  counts = ', '.join(
    f'{sum(one.passed is passed for one in verdicts)} {word}' for passed, word in WORDS.items()
  )
  said = f'Of {len(verdicts)} checks against what is published: {counts}.'
  cells = [
    Cell(one.check, 'passed', float('nan') if one.passed is None else float(one.passed))
    for one in verdicts
  ]
  return Part(
    TITLE,
    study_frame.rows(Whose('checks', 'PersonalLLM'), cells),
    findings=[f'{said} Failed: {"; ".join(failed)}.' if failed else said],
    tables=[
      Table(
        'checks',
        ['check', 'verdict', 'found'],
        [[one.check, WORDS[one.passed], one.found] for one in verdicts],
      )
    ],
  )
