"""The page in Debian's Chromium: what a reader sees, clicks, hears, prints, and what an attacker does not get.

Skipped where there is no Chromium (`apt-get install chromium`). Screenshots stay in build/screenshots/.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from generated_reports import judge
from generated_rounds import some_seconds, write_rounds
from generated_runs import generate, params, profile

from whisper_speedup.compare import compare
from whisper_speedup.report import render

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: make setup brings it")
Error, expect = sync_api.Error, sync_api.expect
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here: install Debian's (apt-get install chromium)"
)
SHOTS = Path(__file__).parents[2] / "build" / "screenshots"
HOSTILE = [
    "<img src=x onerror=\"window.owned='img'\">", "</script><script>window.owned='script'</script>",
    "\"><svg onload=\"window.owned='svg'\">", "'; window.owned='quote'; //", "{{ 7 * 7 }}",
    "\u202eright to left\u202c שלום עולם 123", "مرحبا بالعالم", "😀 👩‍👩‍👧‍👦 e\u0301\u0301\u0301",
    "x" * 10_000, "word " * 2000,
]  # fmt: skip
LONG_MS = 600_000  # ends a test that hangs, and no busy machine reaches it
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 800}


def make(root: Path, made, name: str, judged: bool = False, turns: bool = False, **report) -> Path:
    """Render generated runs; the page's path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        made.write(root, name)
        if turns:
            write_rounds(root, made, some_seconds(made), name)
        folder = compare(profile(**report), name, params())
        if judged:
            judge(folder)
        return (root / render(name)).resolve()


@pytest.fixture(scope="module")
def page_path(tmp_path_factory) -> Path:
    """60 utterances, 8 differing and judged, one cut off, one without output."""
    made = generate(60, differing=8)
    made.results["fused"][20]["truncated"] = True
    made.fail("fused", 30, "out of memory")
    return make(tmp_path_factory.mktemp("page"), made, "example", judged=True, turns=True)


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--autoplay-policy=no-user-gesture-required"], timeout=LONG_MS
        )
        yield launched
        launched.close()


@pytest.fixture
def visit(browser) -> Iterator:
    """Open a page; what it complains of or asks the network for fails the test at its end."""
    contexts, problems = [], []

    def go(path: Path, viewport=None, **settings):
        context = browser.new_context(viewport=viewport or DESKTOP, **settings)
        context.set_default_timeout(LONG_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: problems.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.on("dialog", lambda dialog: problems.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: problems.append(request.url) if not local(request.url, path) else None)
        page.goto(path.as_uri())
        return page

    yield go
    for context in contexts:
        context.close()
    assert problems == []


def local(url: str, path: Path) -> bool:
    return url.startswith("data:") or url.split("#")[0] == path.as_uri()


def fits(page) -> bool:
    """Nothing sticks out sideways: tables scroll in boxes of their own."""
    return page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_either_theme(visit, page_path, scheme):
    import axe_playwright_python

    page = visit(page_path, color_scheme=scheme)
    page.evaluate((Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    bad = [
        f"{v['id']} ({v['impact']}): {v['nodes'][0]['html'][:150]}"
        for v in found["violations"]
        if v["impact"] in ("serious", "critical", "moderate")
    ]
    assert bad == []


def test_the_first_screen_holds_the_answers(visit, page_path):
    page = visit(page_path)
    for selector in ("h1", ".notices", ".tiles"):  # with three notices, the setting is just below
        box = page.locator(selector).bounding_box()
        assert box["y"] + box["height"] <= DESKTOP["height"], selector
    assert page.locator(".tile").count() == 4
    assert page.locator(".tile .claim").count() == 4


@pytest.mark.parametrize("viewport", [PHONE, {"width": 320, "height": 600}, {"width": 768, "height": 900}, DESKTOP])
def test_nothing_sticks_out_at_any_width(visit, page_path, viewport):
    assert fits(visit(page_path, viewport=viewport))


def test_without_javascript_every_table_and_card_is_there(visit, page_path):
    page = visit(page_path, java_script_enabled=False)
    assert page.locator(".utterances tbody tr").count() == 60
    assert page.locator(".figures tbody tr").count() == 6
    assert page.locator("article.card").count() == 8
    assert page.locator("article.card").last.is_visible()
    assert page.locator(".tools").first.is_hidden()
    assert page.locator("th button").count() == 0
    assert page.locator(".utterances tbody tr").nth(7).locator("td").nth(3).text_content().endswith("×")


def column(page, table: str, number: int) -> list[str]:
    return page.locator(f"{table} tbody tr > :nth-child({number})").all_text_contents()


def test_tables_sort_up_down_and_back(visit, page_path):
    """By key: where a busy machine lays the page out again, what is under the mouse is another place than it was."""
    page = visit(page_path)
    before = column(page, ".utterances", 4)
    button = page.locator(".utterances th button", has_text="Fused")
    numbers = [float(text) for text in before if text != "–"]
    button.press("Enter")
    page.locator(".utterances th[aria-sort=ascending]").wait_for()
    assert [float(text) for text in column(page, ".utterances", 4)[:-1]] == sorted(numbers)
    assert column(page, ".utterances", 4)[-1] == "–"
    button.press("Enter")
    page.locator(".utterances th[aria-sort=descending]").wait_for()
    assert page.locator("th[aria-sort]").count() == 1
    assert [float(text) for text in column(page, ".utterances", 4)[:-1]] == sorted(numbers, reverse=True)
    button.press("Enter")
    page.locator("th[aria-sort]").wait_for(state="detached")
    assert column(page, ".utterances", 4) == before


def test_the_keyboard_reaches_the_skip_link_the_heads_and_the_search(visit, page_path):
    page = visit(page_path)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("document.activeElement.getBoundingClientRect().height") > 10
    button = page.locator(".figures th button", has_text="Total").first
    button.focus()
    page.keyboard.press("Enter")
    assert page.locator(".figures th[aria-sort=ascending]").inner_text().startswith("Total")
    page.locator("#card-search").focus()
    page.keyboard.type("0003")
    expect(page.locator("#card-count")).to_have_text("1 of 8 differences")


def test_searching_and_filtering_the_differences(visit, page_path):
    page = visit(page_path)
    shown = page.locator("article.card:visible")
    page.select_option("#card-kind", "worse")
    expect(page.locator("#card-count")).to_have_text("2 of 8 differences")
    assert shown.count() == 2
    assert set(shown.locator(".badge").all_text_contents()) == {"⚠ Worse"}
    page.fill("#card-search", "no such word")
    expect(page.locator("#card-count")).to_have_text("0 of 8 differences")
    # A link to a card that the search hides shows it.
    target = page.locator("article.card.tie").first.get_attribute("id")
    page.evaluate("id => { location.hash = id }", target)
    expect(page.locator("#card-count")).to_have_text("8 of 8 differences")
    assert page.locator(f"#{target}").is_visible()


def test_searching_the_utterances(visit, page_path):
    page = visit(page_path)
    page.select_option("#row-kind", "d")
    expect(page.locator("#row-count")).to_have_text("8 of 60 utterances")
    page.select_option("#row-kind", "f")
    expect(page.locator("#row-count")).to_have_text("1 of 60 utterances")
    assert page.locator(".utterances tbody tr:visible").text_content().endswith("no output")
    page.select_option("#row-kind", "")
    page.fill("#row-search", "134686-0042")
    expect(page.locator("#row-count")).to_have_text("1 of 60 utterances")


def test_a_link_leads_from_an_utterance_to_its_card(visit, page_path):
    page = visit(page_path)
    link = page.locator(".utterances a.tag").first
    link.click()
    page.locator("article.card:target").wait_for(state="attached")
    page.locator("article.card:target a", has_text="in the table").click()
    page.locator(".utterances tr:target").wait_for(state="attached")


def test_the_recording_plays_and_the_picture_shows(visit, page_path):
    page = visit(page_path)
    card = page.locator("article.card").first
    card.scroll_into_view_if_needed()
    played = card.locator("audio").evaluate(
        "audio => new Promise((resolve, reject) => {"
        " audio.muted = true; audio.onerror = () => reject(audio.error.message);"
        " audio.ontimeupdate = () => { if (audio.currentTime > 0) resolve([audio.duration, audio.currentTime]) };"
        " audio.play(); })"
    )
    assert played[0] > 1
    expect(card.locator(".mel img")).to_have_js_property("naturalHeight", 80)
    assert card.locator(".mel img").evaluate("image => image.naturalWidth") > 100


def test_printed_without_controls_and_with_the_first_40_utterances(visit, page_path):
    page = visit(page_path)
    page.emulate_media(media="print")
    assert page.locator(".utterances tbody tr:visible").count() == 40
    assert page.get_by_text("The first 40 are printed").is_visible()
    for selector in ("nav", ".tools", "audio"):
        assert not page.locator(selector).first.is_visible()
    assert page.locator("article.card").first.is_visible()


@pytest.fixture(scope="module")
def hostile_path(tmp_path_factory) -> Path:
    """Every hostile text as a name, a reference, an output of either engine, an error and the title."""
    made = generate(len(HOSTILE), differing=len(HOSTILE))
    for number, text in enumerate(HOSTILE):
        for rows in (made.manifest, *made.results.values()):
            rows[number]["id"] = text
        made.manifest[number]["reference"] = text
        made.say("fused" if number % 2 else "huggingface", number, text)
    made.fail("fused", 3, HOSTILE[0] + HOSTILE[8])
    made.model["name"] = HOSTILE[1]
    made.about["huggingface"]["device_name"] = HOSTILE[2]
    return make(tmp_path_factory.mktemp("hostile"), made, "example", title=HOSTILE[0] + HOSTILE[1])


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP])
def test_hostile_texts_run_nothing_and_break_nothing(visit, hostile_path, viewport):
    page = visit(hostile_path, viewport=viewport)
    assert page.evaluate("window.owned") is None
    assert fits(page)
    assert page.locator("article.card").count() == len(HOSTILE) - 1
    for card in page.locator("article.card").all():
        assert card.bounding_box()["height"] < 4000
    page.fill("#row-search", "<img src=x")
    expect(page.locator("#row-count")).to_have_text(f"1 of {len(HOSTILE)} utterances")
    assert page.evaluate("window.owned") is None


def test_the_policy_stops_what_would_slip_through(browser, page_path):
    context = browser.new_context()
    context.set_default_timeout(LONG_MS)
    page = context.new_page()
    page.goto(page_path.as_uri())
    for markup in (
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=window.owned=1>')",
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.owned = 1'}))",
        "document.body.setAttribute('onclick', 'window.owned = 1')",
    ):
        with pytest.raises(Error, match="Trusted"):
            page.evaluate(markup)
    blocked = page.evaluate(
        "() => new Promise(done => { const image = new Image(); image.onerror = () => done(true);"
        " image.onload = () => done(false); image.src = 'https://example.org/x.png' })"
    )
    assert blocked
    assert page.evaluate("window.owned") is None
    context.close()


def variants() -> dict:
    made = {name: generate(5) for name in ("no references", "engine failed", "random")}
    for row in made["no references"].manifest:
        row["reference"] = None
    made["one utterance"] = generate(1)
    made["all different"] = generate(5, differing=5)
    for number in range(5):
        made["engine failed"].fail("fused", number, "no kernel for this GPU")
    made["random"].model["trained"] = False
    return made


SAID = {
    "no references": "no reference texts",
    "one utterance": "and the text is the same",
    "all different": "5 of 5",
    "engine failed": "There is no speedup to give",
    "random": "These weights are random",
}


@pytest.mark.parametrize("name", list(SAID))
def test_what_is_missing_is_said_on_the_first_screen(visit, tmp_path, name):
    page = visit(make(tmp_path, variants()[name], "example"), viewport=PHONE)
    assert fits(page)
    assert SAID[name] in page.locator("header.page").inner_text()


def whole(page, path: Path) -> None:
    """The whole page in one picture: in a window of its height, so that nothing is out of sight and left unpainted."""
    height = page.evaluate("document.documentElement.scrollHeight")
    page.set_viewport_size({"width": page.viewport_size["width"], "height": height})
    page.screenshot(path=path)


@pytest.mark.slow
def test_screenshots_are_kept(visit, page_path):
    SHOTS.mkdir(parents=True, exist_ok=True)
    for name, settings in {
        "desktop": {}, "dark": {"color_scheme": "dark"}, "phone": {"viewport": PHONE, "device_scale_factor": 2},
    }.items():  # fmt: skip
        page = visit(page_path, **settings)
        page.screenshot(path=SHOTS / f"report-{name}-first-screen.png")
        whole(page, SHOTS / f"report-{name}.png")
    page = visit(page_path)
    page.emulate_media(media="print")
    whole(page, SHOTS / "report-print.png")
    page.pdf(path=SHOTS / "report-print.pdf", format="A4")
    assert {path.name for path in SHOTS.glob("report-*")} >= {
        "report-desktop.png", "report-dark.png", "report-phone.png", "report-print.png", "report-print.pdf",
    }  # fmt: skip
