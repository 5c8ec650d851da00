"""The pages for people without a terminal, in a real Chromium over a real router."""

from __future__ import annotations

import json

import pytest

from tests.harness.browser import DESKTOP, PHONE, chromium
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.router import Router
from tests.harness.simulator import Simulated, SimulatedFleet

pytestmark = pytest.mark.e2e

ROWS = 30
REVIEWS = "id,product,text\n" + "".join(
    f'{n},lamp,"Review {n}: fine, but <b>short</b>"\n' for n in range(ROWS)
)


@pytest.fixture(scope="module")
def router(tmp_path_factory):
    """Two nodes that are slow enough to be watched."""
    folder = tmp_path_factory.mktemp("pages")
    nodes = [
        Simulated("rig-4090", slots=4, tokens_per_second=300),
        Simulated("rig-3060", slots=2, tokens_per_second=100),
    ]
    with (
        SimulatedFleet(folder / "fleet", nodes) as fleet,
        Router(folder, fleet.inventory, prometheus_port=free_port()) as router,
    ):
        yield router


@pytest.fixture
def desktop(router, tmp_path):
    with chromium(router.url, DESKTOP, tmp_path) as page:
        yield page


@pytest.fixture
def phone(router, tmp_path):
    with chromium(router.url, PHONE, tmp_path) as page:
        yield page


@pytest.fixture
def reviews(tmp_path):
    path = tmp_path / "reviews.csv"
    path.write_text(REVIEWS)
    return path


@pytest.fixture
def many_reviews(tmp_path):
    """So many that their job is not over before it is ended by hand."""
    path = tmp_path / "reviews.csv"
    path.write_text(REVIEWS + 'x,lamp,"One more"\n' * 5_000)
    return path


def kept(router):
    """Ids of the files that the router keeps, and of its jobs."""
    files = router.get("/v1/files", params={"limit": 1000}).json()["data"]
    jobs = router.get("/v1/jobs", params={"limit": 100}).json()["data"]
    return {each["id"] for each in (*files, *jobs)}


def choose(page, path):
    page.open("/jobs/new")
    page.by_id("file").send_keys(str(path))
    page.shown("sample")


def write(page, template):
    page.by_id("template").clear()
    page.by_id("template").send_keys(template)


def started(page):
    """Press start; returns the job's id once its page is there."""
    page.by_id("start").click()
    page.until(lambda: "/jobs/batch_" in page.driver.current_url, "a job's page")
    return page.driver.current_url.rpartition("/")[2]


def finished(page, seconds=90):
    page.until(lambda: page.text("state") == "completed", "the job's end", seconds)


def test_a_file_becomes_a_result(router, desktop, reviews, tmp_path):
    """Upload, columns, prompt with its preview, start, live figures, download."""
    choose(desktop, reviews)
    assert ["id", "product", "text"] == [th.text for th in desktop.css("#rows th")]
    assert "reviews.csv: CSV, UTF-8, delimiter: comma, 3 columns" == desktop.text(
        "file-status"
    )
    write(desktop, "Summarise {{ text }}")
    desktop.shown("preview")
    assert "Summarise Review 0: fine, but <b>short</b>" == desktop.text("prompt")
    desktop.by_id("next").click()
    assert "Summarise Review 1: fine, but <b>short</b>" == desktop.text("prompt")
    desktop.css("input[value=tree]")[0].click()
    desktop.by_id("threshold").clear()
    desktop.by_id("threshold").send_keys("4")
    job = started(desktop)
    desktop.until(lambda: int(desktop.text("over")) > 0, "a first answer")
    desktop.shown("value")
    assert desktop.text("state") == "running", "the result is shown before the end"
    finished(desktop)
    shown = router.get(f"/v1/jobs/{job}").json()
    assert {"kind": "tree", "threshold": 4} == shown["reducer"]
    assert (str(ROWS), "11 of 11") == (desktop.text("over"), desktop.text("merges"))
    desktop.shown("output").click()
    file = tmp_path / f"{job}.txt"
    until(file.exists, "the result is downloaded")
    assert router.get(f"/v1/jobs/{job}/output").text == file.read_text()
    assert [] == desktop.complaints()
    assert [] == desktop.nameless()


def test_a_missing_column_is_told_of_while_one_types(desktop, reviews):
    """The message names the columns there are; with the right one it goes."""
    choose(desktop, reviews)
    write(desktop, "{{ txt }}")
    desktop.until(
        lambda: (
            "line 1, column 4: unknown column 'txt' (available: 'id', 'product', "
            "'text')" == desktop.text("template-error")
        ),
        "the complaint",
    )
    assert "true" == desktop.by_id("template").get_attribute("aria-invalid")
    desktop.by_id("start").click()
    desktop.until(
        lambda: desktop.driver.switch_to.active_element == desktop.by_id("template"),
        "the focus is where the fault is",
    )
    write(desktop, "{{ text }}")
    desktop.shown("preview")
    assert "" == desktop.text("template-error")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (
            ("notes.csv", "a\n1,2\n"),
            "no row can be read: line 2, column 3: the row has 2 fields",
        ),
        (("notes.json", '[{"a": 1}, {"a" 2}]'), "line 1, column 17: not JSON"),
        (
            ("notes.parquet", "no parquet at all"),
            "the file does not begin as a Parquet",
        ),
        (("notes.doc", "hello"), "the format of 'notes.doc' is not clear"),
    ],
)
def test_a_file_that_is_none_leaves_nothing(router, desktop, tmp_path, file, message):
    """The complaint is in words, and neither a file nor a job stays behind."""
    before = kept(router)
    path = tmp_path / file[0]
    path.write_text(file[1])
    desktop.open("/jobs/new")
    desktop.by_id("file").send_keys(str(path))
    desktop.until(lambda: message in desktop.text("file-error"), message)
    until(lambda: kept(router) == before, "nothing is kept")


def test_leaving_the_page_takes_the_file_along(router, desktop, reviews):
    """A file without a job is of no use to anybody."""
    before = kept(router)
    choose(desktop, reviews)
    assert kept(router) != before
    desktop.open("/jobs")
    until(lambda: kept(router) == before, "the file is gone")


def test_names_and_values_are_never_markup(desktop, tmp_path):
    """A file from a stranger cannot run a script on the page."""
    evil = "<img src=x onerror=document.title='owned'>"
    path = tmp_path / "evil.csv"
    path.write_text(f'text,"{evil}"\n"{evil}","{evil}"\n')
    choose(desktop, path)
    write(desktop, "Say: {{ text }}")
    desktop.shown("preview")
    assert f"Say: {evil}" == desktop.text("prompt")
    desktop.by_id("template").clear()
    desktop.css("#columns button")[1].click()
    assert f'{{{{ row["{evil}"] }}}}' == desktop.by_id("template").get_attribute(
        "value"
    )
    started(desktop)
    finished(desktop)
    assert "evil.csv · InferOps" == desktop.driver.title


def test_a_vote_shows_rows_that_failed_and_no_spared_samples(desktop, tmp_path):
    """Samples that were not needed are no failures; rows count from 1."""
    path = tmp_path / "short.csv"
    path.write_text("id,text\n1,a\n2\n3,c\n")
    choose(desktop, path)
    write(desktop, "{{ text }}")
    desktop.shown("preview")  # what comes above moves what is clicked on
    desktop.css("input[value=vote]")[0].click()
    assert "line 3: the row has fewer fields than there are names" in (
        desktop.text("notes")
    )
    started(desktop)
    finished(desktop)
    desktop.shown("failures")
    failures = desktop.text("failures").splitlines()
    assert {"row 2: line 3: the row has no column 'text' (it has 'id')"} == (
        set(failures)
    )
    assert ["answer", "votes"] == [th.text for th in desktop.css("#value th")]


def test_a_phone_needs_no_sideways_scrolling(router, phone, reviews):
    """Each page fits the width, and a job can be started there."""
    choose(phone, reviews)
    write(phone, "Count the words of {{ text }}")
    phone.shown("preview")
    phone.css("input[value=count]")[0].click()
    phone.css("summary")[0].click()
    assert (0, []) == (phone.too_wide(), phone.nameless())
    started(phone)
    phone.shown("result")
    finished(phone)
    assert (0, []) == (phone.too_wide(), phone.nameless())
    phone.open("/jobs")
    assert phone.css("[data-job]")
    assert (0, []) == (phone.too_wide(), phone.nameless())


def test_the_keyboard_is_enough(router, desktop, many_reviews):
    """From the prompt to a paused and an ended job without a pointer."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def press(*keys):
        for key in keys:
            ActionChains(desktop.driver).send_keys(key).perform()

    def go_to(name):
        for _ in range(60):
            if desktop.driver.switch_to.active_element.get_attribute("id") == name:
                return
            press(Keys.TAB)
        pytest.fail(f"the tabulator does not lead to #{name}")

    choose(desktop, many_reviews)  # a file's dialog is the browser's own
    go_to("template")
    press("Tell me of ")
    ActionChains(desktop.driver).key_down(Keys.SHIFT).send_keys(Keys.TAB).key_up(
        Keys.SHIFT
    ).perform()
    press(Keys.ENTER)  # the last column's button
    assert "Tell me of {{ text }}" == desktop.by_id("template").get_attribute("value")
    go_to("model")
    press(Keys.TAB, Keys.DOWN)  # the next way to reduce
    assert desktop.css("input[value=tree]")[0].is_selected()
    go_to("start")
    press(Keys.ENTER)
    desktop.until(lambda: "/jobs/batch_" in desktop.driver.current_url, "a job's page")
    desktop.shown("pause")
    go_to("pause")
    press(Keys.ENTER)
    desktop.until(lambda: desktop.text("state") == "paused", "the job is paused")
    assert "resume" == desktop.driver.switch_to.active_element.get_attribute("id")
    press(Keys.ENTER)
    desktop.until(lambda: desktop.text("state") == "running", "the job runs again")
    go_to("cancel")
    press(Keys.ENTER)
    assert desktop.by_id("sure").is_displayed()
    press(Keys.ESCAPE)
    assert not desktop.by_id("sure").is_displayed()
    go_to("cancel")
    press(Keys.ENTER)
    go_to("sure-yes")
    press(Keys.ENTER)
    desktop.until(lambda: desktop.text("state") == "cancelled", "the job is ended")


@pytest.mark.long
def test_a_killed_router_is_waited_for(router, desktop, tmp_path):
    """The page says that the connection is lost, and goes on with the job."""
    path = tmp_path / "many.csv"
    path.write_text("text\n" + "".join(f"line {n}\n" for n in range(60)))
    choose(desktop, path)
    write(desktop, "{{ text }}")
    job = started(desktop)
    desktop.until(lambda: int(desktop.text("over")) > 0, "a first answer")
    router.process.kill()
    desktop.until(lambda: "lost" in desktop.text("connection"), "the loss is told")
    router.process.start()
    router.wait_ready()
    desktop.until(lambda: desktop.text("connection") == "", "it is back", 60)
    finished(desktop, 120)
    lines = router.get(f"/v1/jobs/{job}/results").text.splitlines()
    assert list(range(60)) == [json.loads(line)["index"] for line in lines]


@pytest.mark.parametrize("path", ["/v1/files", "/v1/jobs", "/v1/jobs/preview"])
def test_pages_of_others_cannot_start_anything(router, path):
    """What a foreign page sends, also as a plain form, is refused by its origin."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json"):
        answer = router.post(
            path,
            data=b'{"file_id": "file-1", "model": "m", "template": "t"}',
            headers={"Origin": "http://evil.example", "Content-Type": kind},
        )
        assert 403 == answer.status_code


def test_pages_keep_to_themselves(router):
    """No page may be framed or load anything from elsewhere; an unknown job is 404."""
    for path, status in (("/jobs", 200), ("/jobs/new", 200), ("/jobs/batch_no", 404)):
        answer = router.get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert status == answer.status_code
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "http" not in answer.text.replace(router.url, "")
    assert "there is no" in answer.text or "not found" in answer.text.lower()
