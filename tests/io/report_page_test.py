import html.parser
import itertools
import re

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from metapers.core import files
from metapers.io import plots, report

PHONE, LETTER = 358, 11  # CSS pixels: the width of a page on a telephone; what can be read
KINDS = ('wide', 'narrow')
VOID = {'meta', 'path', 'use', 'stop', 'br', 'wbr'}


class Page(html.parser.HTMLParser):
  """Collects the text and every address of a page, and checks that its elements are closed."""

  def __init__(self, text):
    super().__init__()
    self.open, self.addresses, self.texts, self.ids, self.tags = [], [], [], [], []
    self.feed(text)
    self.close()

  def handle_starttag(self, tag, attrs):
    names = {'src', 'href', 'xlink:href', 'data', 'action'}
    self.addresses += [value for name, value in attrs if name in names]
    self.addresses += re.findall(r'url\(([^)]*)\)', ' '.join(value or '' for _, value in attrs))
    self.ids += [value for name, value in attrs if name == 'id']
    self.tags.append((tag, dict(attrs)))
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


@pytest.fixture(scope='module')
def text(figure):
  body = [['<b>maml</b>', '60 ± 1'], ['cnp', '61 ± 2']]
  table = report.Table('accuracy (%)', ['learner', '0'], body, note='share of choices > 1/2')
  svg = plots.inline_svg(figure)
  sections = [
    report.Section('first & last', ['a < b'], [report.Drawing(svg, svg, 'bands > 0')], [table]),
    report.Section(
      'second',
      figures=[report.Drawing(svg, svg)],
      tables=[report.Table('nll', ['learner'], [], 'one\ntwo')],
    ),
  ]
  lead = ['maml <best>', 'cnp & co']
  return report.render(
    'Results',
    sections,
    source='synthetic',
    summary={'{{ x }}': '"x" <y>'},
    lead=lead,
    warnings=['few <people>'],
  )


def test_the_page_is_well_formed_and_loads_nothing(text):
  page = Page(text)
  assert page.open == []
  assert {address[1:] for address in page.addresses} <= set(page.ids)
  assert all(address.startswith('#') for address in page.addresses)
  assert '@import' not in text


def test_no_two_ids_are_the_same(text):
  page = Page(text)
  assert len(set(page.ids)) == len(page.ids) > 100
  assert {'figure-1-figure_1', 'figure-3-figure_1', 'section-2'} <= set(page.ids)
  assert '<metadata' not in text


def test_findings_stand_above_everything_and_notes_under_captions(text):
  texts = [part for part in Page(text).texts if part.strip()]
  order = ('data: synthetic', 'Warning: few <people>', 'maml <best>', 'cnp & co', 'a < b')
  places = [texts.index(x) for x in order]
  assert places == sorted(places)
  assert texts[texts.index('accuracy (%)') + 1] == 'share of choices > 1/2'
  plain = report.render('Results', [report.Section('only')], source='x', summary={})
  assert not {'<ul', '<nav', '<small'} & set(re.findall('<[a-z]+', plain))


def test_texts_are_escaped_and_the_source_is_named(text):
  texts = Page(text).texts
  shown = {
    'first & last', 'a < b', '<b>maml</b>', '60 ±\N{NO-BREAK SPACE}1', '{{ x }}', '"x" <y>',
    'data: synthetic',
  }  # fmt: skip
  assert shown <= set(texts)


def test_every_table_is_captioned_and_scrolls_by_keyboard_under_its_caption(text):
  page = Page(text)
  tables = [attrs for tag, attrs in page.tags if tag == 'table']
  boxes = [attrs for tag, attrs in page.tags if 'scroll' in attrs.get('class', '').split()]
  captions = [attrs['id'] for tag, attrs in page.tags if tag == 'figcaption' and 'id' in attrs]
  assert [attrs['aria-labelledby'] for attrs in tables] == captions == ['table-1-1', 'table-2-1']
  assert [(box['role'], box['tabindex'], box['aria-labelledby']) for box in boxes] == [
    ('region', '0', caption) for caption in captions
  ]
  scopes = [attrs.get('scope') for tag, attrs in page.tags if tag == 'th']
  assert scopes.count('row') == 2 and scopes.count('col') == 3 and None not in scopes


def test_names_in_a_table_break_behind_underscores_and_cells_before_their_half_width():
  table = report.Table('x', ['learner', 'ece_by_chance (%)'], [['<b>a_b</b>', '1 ± 2']])
  page = report.render('x', [report.Section('y', tables=[table])], source='x', summary={})
  assert 'ece_<wbr>by_<wbr>chance (%)</th>' in page
  assert '<th scope="row">&lt;b&gt;a_<wbr>b&lt;/b&gt;</th>' in page
  assert '<td>1 ±\N{NO-BREAK SPACE}2</td>' in page


def test_every_line_of_a_note_stands_alone(text):
  texts = Page(text).texts
  assert texts.index('two') == texts.index('one') + 1


def test_a_figure_is_there_for_wide_and_for_narrow_screens_and_one_is_shown(text):
  shown = [attrs['class'] for tag, attrs in Page(text).tags if attrs.get('class') in KINDS]
  assert shown == ['wide', 'narrow'] * 2
  styles = ' '.join(text[: text.index('</style>')].split())
  assert '.narrow { display: none; }' in styles
  assert '@media (max-width: 40rem) { .wide { display: none; } .narrow { display: block; } }' in (
    styles
  )


def test_a_narrow_figure_has_letters_that_can_be_read_on_a_telephone():
  title = 'a title that is longer than a telephone is wide, and that the page says already'
  svg = plots.inline_svg(plots.adaptation(draw_curves(), title=title, is_narrow=True))
  width = float(re.search(r'viewBox="0 0 ([0-9.]+) ', svg)[1])
  sizes = [float(size) for size in re.findall(r'font: (?:bold )?([0-9.]+)px', svg)]
  sizes += [float(size) for size in re.findall(r'font-size: ([0-9.]+)px', svg)]
  assert sizes and min(sizes) * PHONE / width > LETTER
  assert title not in ' '.join(Page(svg).texts)


def test_a_figure_is_told_to_those_who_cannot_see_it(figure):
  (svg,) = [attrs for tag, attrs in Page(plots.inline_svg(figure)).tags if tag == 'svg']
  assert svg['aria-label'].startswith(
    'unseen users <synthetic>: accuracy by comparisons given of a new user; oracle from 90.0% at 0 '
    'to 98.0% at 8, '
  )


def test_numbers_on_the_axis_do_not_touch():
  assert plots.apart(np.array([0, 1, 1.05, 2]), 0.1) == [True, False, True, True]
  assert plots.apart(np.array([0, 1.95, 2]), 0.1) == [True, False, True]
  assert plots.apart(np.array([3.0]), 0.1) == [True]


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


def test_labels_show_the_dash_and_the_marker_of_their_curves(figure):
  back = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 2]
  looks = {(line.get_color(), line.get_linestyle(), line.get_marker()) for line in back}
  assert len(looks) == len(back) == len(draw_curves())
  assert not any(line.get_clip_on() for line in back)  # or half of the marker is cut off


@pytest.mark.parametrize(('suffix', 'start'), [('png', b'\x89PNG'), ('svg', b'<?xml')])
def test_a_figure_is_saved_by_its_suffix(figure, tmp_path, suffix, start):
  path = plots.save(figure, tmp_path / f'adaptation.{suffix}')
  assert path.read_bytes().startswith(start)


def test_no_curves_is_an_error():
  with pytest.raises(ValueError, match='no curves'):
    plots.adaptation([], title='nothing')


@hypothesis.given(strategies.lists(strategies.floats(0, 1), min_size=1, max_size=10))
def test_labels_keep_their_order_and_distance_and_stay_inside(wanted):
  placed = plots.spread(np.array(wanted), 0.1, 0.0, 1.0)
  order = np.argsort(wanted, kind='stable')
  assert (np.diff(placed[order]) >= 0.1 - 1e-9).all()
  assert placed.min() >= -1e-9 and placed.max() <= 1 + 1e-9


def test_labels_that_touch_are_centred_on_where_they_would_be():
  wanted = np.array([0.5, 0.5, 0.1, 0.54])
  np.testing.assert_allclose(
    plots.spread(wanted, 0.1, 0.0, 1.0), [0.413333, 0.513333, 0.1, 0.613333], atol=1e-6
  )


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
