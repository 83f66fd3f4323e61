"""The report page in a real browser: it sorts, it asks for nothing, and names stay names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from page_samples import HEBREW, SCRIPT, hostile_home, page_of
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.expected_conditions import alert_is_present
from selenium.webdriver.support.wait import WebDriverWait

if TYPE_CHECKING:
    from stream_samples import Ran

pytestmark = pytest.mark.browser

EMPTY = "\u2013"  # a dash


@pytest.fixture(scope="module")
def address(many: Ran, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of the run that figures share, as a file."""
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(page_of(many.home), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def hostile_address(many: Ran, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a run where every name is hostile, as a file."""
    folder: Path = tmp_path_factory.mktemp("hostile")
    path = folder / "page.html"
    path.write_text(page_of(hostile_home(many.home, folder / "home")), encoding="utf-8")
    return path.as_uri()


def opened(browser: webdriver.Chrome, address: str) -> None:
    """Open a page, and forget what was logged before; its script has run when this returns."""
    browser.get("about:blank")
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(address)
    WebDriverWait(browser, 30).until(lambda b: b.find_elements(By.CSS_SELECTOR, "th button"))


def header(browser: webdriver.Chrome, table: str, words: str) -> WebElement:
    """Return the header of a column by its words."""
    found = browser.find_elements(By.CSS_SELECTOR, f"#table-{table} thead th")
    (one,) = [th for th in found if th.text.split(" ↕")[0].strip() == words]
    return one


def column(browser: webdriver.Chrome, table: str, th: WebElement) -> list[str]:
    """Return the cells below a header as they stand: raw numbers, or text."""
    script = """
        const at = arguments[1].cellIndex;
        return Array.from(document.querySelectorAll(`#table-${arguments[0]} tbody tr`), (row) => {
          const number = row.cells[at].querySelector("data");
          return number ? number.value : row.cells[at].textContent.trim();
        });
    """
    found: list[str] = browser.execute_script(script, table, th)
    return found


def test_a_click_sorts_numbers_and_a_second_one_turns_them(
    browser: webdriver.Chrome, address: str
) -> None:
    opened(browser, address)
    file = header(browser, "arrivals", "file")
    before = column(browser, "arrivals", file)

    file.find_element(By.TAG_NAME, "button").click()
    once = [float(value) for value in column(browser, "arrivals", file)]
    first = file.get_attribute("aria-sort")
    file.find_element(By.TAG_NAME, "button").click()
    twice = [float(value) for value in column(browser, "arrivals", file)]

    assert len(before) == 8
    assert (first, once) == ("ascending", sorted(map(float, before)))
    assert (file.get_attribute("aria-sort"), twice) == ("descending", sorted(once, reverse=True))


def test_numbers_are_sorted_as_numbers(browser: webdriver.Chrome, hostile_address: str) -> None:
    opened(browser, hostile_address)
    rows = header(browser, "tasks", "training examples")
    before = column(browser, "tasks", rows)

    rows.find_element(By.TAG_NAME, "button").click()

    assert (before, column(browser, "tasks", rows)) == (["1000", "9"], ["9", "1000"])


@pytest.mark.parametrize("key", [Keys.ENTER, Keys.SPACE])
def test_a_key_sorts_text_and_one_header_alone_says_so(
    key: str, browser: webdriver.Chrome, address: str
) -> None:
    opened(browser, address)
    method, other = (header(browser, "arrivals", words) for words in ("method", "score"))
    before = column(browser, "arrivals", method)
    other.find_element(By.TAG_NAME, "button").click()

    method.find_element(By.TAG_NAME, "button").send_keys(key)

    after = column(browser, "arrivals", method)
    assert after == sorted(before)
    assert len(set(after)) == 2
    assert method.get_attribute("aria-sort") == "ascending"
    assert len(browser.find_elements(By.CSS_SELECTOR, "#table-arrivals [aria-sort]")) == 1


def test_empty_cells_stay_last_both_ways(browser: webdriver.Chrome, hostile_address: str) -> None:
    opened(browser, hostile_address)
    score = header(browser, "arrivals", "score")
    for _ in range(2):
        score.find_element(By.TAG_NAME, "button").click()

        assert column(browser, "arrivals", score) == ["0.5", "0.5", EMPTY]


def test_tab_goes_from_the_skip_link_through_every_header(
    browser: webdriver.Chrome, address: str
) -> None:
    opened(browser, address)
    n_buttons = len(browser.find_elements(By.CSS_SELECTOR, "th button"))
    stops = []
    for _ in range(n_buttons + 60):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        here = browser.switch_to.active_element
        if here.tag_name == "body":
            break
        stops.append((here.tag_name, here.get_attribute("class")))

    assert stops[0] == ("a", "skip")
    assert [tag for tag, _ in stops].count("button") == n_buttons > 20


def test_the_console_is_silent_and_no_request_leaves_the_page(
    browser: webdriver.Chrome, address: str
) -> None:
    opened(browser, address)
    header(browser, "tasks", "task").find_element(By.TAG_NAME, "button").click()

    lines = [json.loads(line["message"])["message"] for line in browser.get_log("performance")]
    asked = {
        line["params"]["request"]["url"]
        for line in lines
        if line["method"] == "Network.requestWillBeSent"
    }
    assert asked == {address}
    assert browser.get_log("browser") == []


def test_hostile_names_are_read_and_never_run(
    browser: webdriver.Chrome, hostile_address: str
) -> None:
    opened(browser, hostile_address)

    assert not alert_is_present()(browser)
    assert SCRIPT in browser.find_element(By.TAG_NAME, "h1").text
    tasks = column(browser, "tasks", header(browser, "tasks", "task"))
    assert tasks == [SCRIPT, HEBREW + r"\u202e"]
    assert browser.find_elements(By.TAG_NAME, "img") == []
    assert len(browser.find_elements(By.TAG_NAME, "script")) == 1
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_is_no_wider_than_the_window(
    width: int, browser: webdriver.Chrome, hostile_address: str, address: str
) -> None:
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        for page in (address, hostile_address):
            opened(browser, page)

            wide = browser.execute_script("return document.documentElement.scrollWidth")
            assert wide <= width
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_paper_gets_all_columns_and_no_links_to_click(
    browser: webdriver.Chrome, address: str
) -> None:
    size = {"width": 703, "height": 1000, "deviceScaleFactor": 1, "mobile": False}  # A4
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        opened(browser, address)

        shown = browser.find_elements(By.CSS_SELECTOR, ".skip, nav, .hint")
        assert len(shown) > 2
        assert not any(element.is_displayed() for element in shown)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 703
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(
    scheme: str, browser: webdriver.Chrome, address: str
) -> None:
    feature = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", feature)
    opened(browser, address)
    script = """
        const light = (colour) => {
          const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => {
            const share = part / 255;
            return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
          });
          return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
        };
        const behind = (element) => {
          const colour = getComputedStyle(element).backgroundColor;
          return colour === "rgba(0, 0, 0, 0)" ? behind(element.parentElement) : colour;
        };
        const hasText = (element) => Array.from(element.childNodes)
          .some((child) => child.nodeType === Node.TEXT_NODE && child.data.trim());
        return Array.from(document.querySelectorAll("body *:not(svg, svg *, script)"))
          .filter(hasText)
          .map((element) => {
            const pair = [light(getComputedStyle(element).color), light(behind(element))];
            return [(Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05), element.outerHTML];
          });
    """
    found = browser.execute_script(script)

    assert len(found) > 100
    assert [(ratio, text[:100]) for ratio, text in found if ratio < 4.5] == []
