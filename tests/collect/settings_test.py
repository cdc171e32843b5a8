import pytest

from metapers.collect import settings
from metapers.collect.settings import Settings


@pytest.mark.parametrize('name', ['control_share', 'repeat_share', 'stop_probability'])
@pytest.mark.parametrize('value', [0, 1])
def test_a_whole_number_is_a_share_in_json_and_in_python(name, value):
  given = {'control_share': 0, 'repeat_share': 0, 'attention_share': 0} | {name: value}
  by_json = settings.of_json(given, 'study.json')
  assert by_json == settings.checked(Settings(**given))
  assert type(by_json._asdict()[name]) is float
  assert by_json._asdict()[name] == value


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ({'rule': 'best'}, 'unknown rule'),
    ({'rul': 'random'}, "no setting is called 'rul'"),
    ({'num_questions': 0}, 'num_questions must lie in'),
    ({'num_questions': '5'}, 'num_questions'),
    ({'control_share': 0.8, 'repeat_share': 0.5}, 'over 1'),
    ({'pool_size': 3, 'batch_size': 4}, 'pool_size must be at least batch_size, 4,.* got 3'),
  ],
)
def test_settings_that_cannot_be_are_refused(given, message):
  with pytest.raises(ValueError, match=message):
    settings.checked(settings.of_json(given, 'study.json'))
