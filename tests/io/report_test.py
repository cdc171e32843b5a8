import html.parser
import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from metapers.core import files
from metapers.io import plots, report

VOID = {'meta', 'path', 'use', 'stop', 'br'}


class Page(html.parser.HTMLParser):
  """Collects the text and every address of a page, and checks that its elements are closed."""

  def __init__(self, text):
    super().__init__()
    self.open, self.addresses, self.texts = [], [], []
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    names = {'src', 'href', 'xlink:href', 'data', 'action'}
    self.addresses += [value for name, value in attrs if name in names]
    if tag not in VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.handle_starttag(tag, attrs)
    if tag not in VOID:
      self.open.pop()

  def handle_endtag(self, tag):
    if tag not in VOID:
      assert self.open.pop() == tag

  def handle_data(self, data):
    self.texts.append(data)


def curve(name, role='learner', level=0.6, num_seeds=2):
  shots = np.array([0, 1, 2, 4, 8])
  value = level + 0.02 * np.arange(5)
  points = value + 0.01 * np.arange(num_seeds)[:, None]
  return plots.Curve(name, role, shots, value, value - 0.01, value + 0.01, points)


def draw_curves():
  learners = [curve(f'learner_{i}', level=0.6 + 0.001 * i) for i in range(11)]
  references = [curve('oracle', 'reference', 0.9), curve('bayes', 'reference', 0.8, 0)]
  return [*references, *learners, curve('pooled', 'baseline', 0.5, 0)]


@pytest.fixture(scope='module')
def figure():
  return plots.adaptation(draw_curves(), title='unseen users <synthetic>')


def make_page(figure):
  table = report.Table('accuracy', ['learner', '0'], [['<b>maml</b>', '60 ± 1'], ['cnp', '61 ± 2']])
  sections = [
    report.Section('first & last', ['a < b'], [plots.inline_svg(figure)], [table]),
    report.Section('second'),
  ]
  return report.render('Results', sections, source='synthetic', summary={'path': '"x" <y>'})


def test_the_page_is_well_formed_and_loads_nothing(figure):
  page = Page(make_page(figure))
  assert page.open == []
  assert page.addresses and all(address.startswith('#') for address in page.addresses)
  assert '@import' not in make_page(figure)


def test_texts_are_escaped_and_the_source_is_named(figure):
  texts = Page(make_page(figure)).texts
  shown = {'first & last', 'a < b', '<b>maml</b>', '60 ± 1', '"x" <y>', 'data: synthetic'}
  assert shown <= set(texts)


def test_every_curve_is_named_in_the_figure(figure):
  svg = plots.inline_svg(figure)
  texts = ' '.join(Page(svg).texts)
  assert all(made.name in texts for made in draw_curves())
  assert 'currentColor' in svg and plots.INK not in svg


def test_the_same_curves_give_the_same_svg(figure):
  again = plots.adaptation(draw_curves(), title='unseen users <synthetic>')
  assert plots.inline_svg(again) == plots.inline_svg(figure)


def test_no_two_curves_look_alike():
  styles = plots.line_styles(draw_curves())
  looks = [(style['color'], style['ls'], style['marker']) for style in styles]
  assert all(one != other for one, other in itertools.combinations(looks, 2))


@pytest.mark.parametrize(('suffix', 'start'), [('png', b'\x89PNG'), ('svg', b'<?xml')])
def test_a_figure_is_saved_by_its_suffix(figure, tmp_path, suffix, start):
  path = plots.save(figure, tmp_path / f'adaptation.{suffix}')
  assert path.read_bytes().startswith(start)


def test_no_curves_is_an_error():
  with pytest.raises(ValueError, match='no curves'):
    plots.adaptation([], title='nothing')


@hypothesis.given(strategies.lists(strategies.floats(0, 1), min_size=1, max_size=10))
@hypothesis.settings(deadline=None)
def test_labels_keep_their_order_and_distance_and_stay_inside(wanted):
  placed = plots.spread(np.array(wanted), 0.1, 0.0, 1.0)
  order = np.argsort(wanted, kind='stable')
  assert (np.diff(placed[order]) >= 0.1 - 1e-9).all()
  assert placed.min() >= -1e-9 and placed.max() <= 1 + 1e-9


def test_labels_far_apart_stay_where_they_are():
  np.testing.assert_allclose(
    plots.spread(np.array([0.9, 0.1, 0.5]), 0.1, 0.0, 1.0), [0.9, 0.1, 0.5]
  )


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path):
  path = files.write_atomically(tmp_path / 'deep' / 'page.html', 'old ü')
  files.write_atomically(path, b'new')
  assert path.read_bytes() == b'new'
  assert [one.name for one in path.parent.iterdir()] == ['page.html']


def test_a_file_that_cannot_be_replaced_leaves_nothing_beside_it(tmp_path):
  (tmp_path / 'taken').mkdir()
  with pytest.raises(OSError):
    files.write_atomically(tmp_path / 'taken', 'text')
  assert [one.name for one in tmp_path.iterdir()] == ['taken']
