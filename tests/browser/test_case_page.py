"""The case page in Chromium: it loads, draws, and everything points at one place."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # importlib mode: no packages among tests
from report_cases import put_case, run_report

from payerseg.results.artifacts import REPORT

READY = "document.body.dataset.viewer === 'ready'"
INK = """(() => {{ const c = document.querySelectorAll('.planes canvas')[{k}];
  const p = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
  let n = 0; for (let i = 0; i < p.length; i += 4) if (p[i] > 60) n++;
  return n / (c.width * c.height); }})()"""
HASH = """[...document.querySelectorAll('.planes canvas')].map((c) => {
  const p = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
  let h = 0; for (let i = 0; i < p.length; i++) h = (h * 31 + p[i]) | 0; return h; })"""
SETTLE = "new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(() => go(true))))"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, synthetic_spine):
    root = tmp_path_factory.mktemp("case")
    spine = synthetic_spine()
    case = put_case(root, "sub <01> & co", spine.ct, spine.labels, spine.landmarks)
    run_report(case)
    return case


@pytest.fixture
def page(browser, folder):
    opened = browser.open(folder.path(REPORT))
    opened.wait(READY)
    yield opened
    assert opened.troubles() == []
    opened.close()


def drawn(page):
    page.run(SETTLE)
    return page.run(HASH)


def test_it_loads_without_a_word_and_draws(page):
    assert page.run("document.querySelector('h1').textContent") == "sub <01> & co"
    page.run(SETTLE)
    for k in range(3):
        assert page.run(INK.format(k=k)) > 0.02, f"plane {k} is blank"
    assert page.run("document.querySelector('.curved image').getBBox().height") > 50


def test_the_scan_in_the_page_is_the_scan(page):
    for level, label in (("T10", 17), ("L2", 21)):
        page.run(f"choose('{level}')")
        value = page.run("viewer.valueAt()")
        assert value["label"] == label
        assert abs(value["hu"] - 350) < 60


def test_a_row_leads_to_its_vertebra(page):
    before = drawn(page)
    page.click("tr[data-level=L1]")
    wanted = page.run("facts.levels.L1.position_mm")
    at = page.run("viewer.at")
    assert at == pytest.approx(wanted, abs=0.01)
    assert page.run("document.querySelector('tr.on').dataset.level") == "L1"
    assert "L1" in page.run("document.getElementById('place').textContent")
    after = drawn(page)
    assert all(a != b for a, b in zip(before, after, strict=True))


def test_keys_walk_through_vertebrae(page):
    page.press("j")
    page.press("j")
    assert page.run("document.querySelector('tr.on').dataset.level") == "T11"
    page.press("k")
    assert page.run("document.querySelector('tr.on').dataset.level") == "T10"


def test_a_click_in_the_curved_view_leads_there(page):
    page.run("choose('T12')")
    page.click("svg[data-view=sagittal] .pane", (0.5, 0.5))
    at = page.run("viewer.at")
    middle = page.run("facts.levels.T12.position_mm")
    assert abs(at[2] - middle[2]) < 12
    page.click("svg[data-view=coronal] .mark[data-level=L2] circle")
    assert page.run("viewer.at") == pytest.approx(page.run("facts.levels.L2.position_mm"), abs=0.01)


def test_a_click_in_a_plane_moves_the_others(page):
    page.run("viewer.setZoom(1)")
    # the click is counted from what is drawn, so the new zoom must be on the screen first
    page.run("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(() => r(1))))")
    start = page.run("viewer.at")
    page.click(".planes canvas[data-plane=coronal]", (0.4, 0.3))
    at = page.run("viewer.at")
    assert at[0] < start[0]  # the patient's right is on the left
    assert at[2] > start[2]  # the head is on top
    assert at[1] == start[1]


def test_the_wheel_scrolls_slices(page):
    start = page.run("viewer.at")
    box = page.run(
        "(() => { const b = viewer.views[0].canvas.getBoundingClientRect(); return [b.x + 40, b.y + 40]; })()"
    )
    page.call(
        "Input.dispatchMouseEvent", type="mouseWheel", x=box[0], y=box[1], deltaX=0, deltaY=120
    )
    page.wait(f"viewer.at[2] !== {start[2]}", 10)
    spacing = page.run("viewer.scan.spacing[2]")
    assert (start[2] - page.run("viewer.at[2]")) / spacing == pytest.approx(4)  # towards the feet


def test_mask_and_window_change_the_picture(page):
    pictures = [drawn(page)]
    for selector in (
        "[data-mask=fill]",
        "[data-mask=off]",
        "[data-window=soft]",
        "[data-window=lung]",
    ):
        page.click(selector)
        assert (
            page.run(f"document.querySelector('{selector}').getAttribute('aria-pressed')") == "true"
        )
        pictures.append(drawn(page))
    first = [picture[0] for picture in pictures]
    assert len(set(first)) == len(first)
    page.click("[data-mask=off]")
    assert page.run("getComputedStyle(document.querySelector('.overlay')).display") == "none"


def test_narrow_windows_work_too(browser, folder):
    opened = browser.open(folder.path(REPORT), 700, 900)
    opened.wait(READY)
    assert opened.run("document.documentElement.scrollWidth") <= 700
    assert opened.troubles() == []
    opened.close()


def test_without_viewer(browser, folder):
    run_report(folder, viewer=False)
    opened = browser.open(folder.path(REPORT))
    opened.click("tr[data-level=T12]")
    assert opened.run("document.querySelector('.mark.on').dataset.level") == "T12"
    assert "translate(0 -9)" not in opened.run(
        "document.querySelector('.here.row').getAttribute('transform')"
    )
    assert opened.troubles() == []
    opened.close()
