import numpy as np
import pytest


@pytest.fixture(scope='module')
def study(tmp_path_factory):
  import made_studies

  from metapers.collect import running
  from metapers.collect.settings import Settings

  folder = tmp_path_factory.mktemp('scripted')
  items = made_studies.write_items(folder / 'items')
  asked = Settings(num_questions=6, control_share=0, repeat_share=0.2, attention_share=0.1)
  opened = made_studies.open_study(folder, asked, running.prior(items))
  yield opened
  opened.store.close()


def test_of_people_whom_the_prior_expects_at_least_as_many_are_right_as_is_claimed(study):
  from metapers.collect import scripted

  found = scripted.claims(study.plan, study.beliefs, 150)
  off = found.is_best.mean() - found.probability.mean()
  assert -3 * np.sqrt(0.25 / 150) < off < 0.25  # a Gaussian at the mode claims too little, by .05
  assert found.is_best.mean() > 2 / len(study.beliefs.target)  # more than a guess
  assert found.lost.min() == 0


def test_who_answers_against_their_taste_is_claimed_wrongly(study, monkeypatch):
  from metapers.collect import scripted

  answered = scripted.answered
  monkeypatch.setattr(
    scripted, 'answered', lambda plan, number, utility, rng: answered(plan, number, -utility, rng)
  )
  found = scripted.claims(study.plan, study.beliefs, 60, strength=3.0)
  assert found.is_best.mean() < found.probability.mean() - 0.3


def test_answers_are_of_the_questions_that_the_study_would_ask(study):
  from metapers.collect import assignment, scripted

  utility = np.linspace(0, 50, len(study.plan.ids))  # so steep that the later item is chosen
  history = scripted.answered(study.plan, 1, utility, np.random.default_rng(0))
  assert len(history) == 6
  assert assignment.next_batch(study.plan, 1, history) == []
  assert history[:1] == [
    question._replace(id=1, answer=history[0].answer)
    for question in assignment.next_batch(study.plan, 1, [])
  ]
  for question in history:
    if question.kind == 'attention':
      assert question.answer.choice == 0
    else:
      rows = [study.plan.ids.index(name) for name in question.items]
      assert question.answer.choice == np.argmax(rows)


def test_a_line_says_how_often_claims_of_a_level_are_right():
  from metapers.collect import scripted
  from metapers.collect.scripted import Claims

  found = Claims(np.array([0.5, 0.85, 0.92, 1.0]), np.array([0.4, 0.0, 0.1, 0.0]))
  lines = list(scripted.lines(found))
  assert lines[0].startswith('claims of at least 0.00: 100.0% of 4 participants, claimed 81.8%')
  assert 'right 50.0% +- 69.3%' in lines[2]
  assert '25.0% of 4 participants, claimed 100.0%, right 100.0% +- 100.0%' in lines[3]
