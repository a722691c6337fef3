"""The label review page in a real browser, and what it saves."""

import numpy as np
import pytest
import scipy.io
from selenium.webdriver.support.ui import WebDriverWait

from cfaan_jax.data.records import RecordSet
from cfaan_jax.errors import InputError
from cfaan_jax.metrics import corrections
from cfaan_jax.metrics.search import Search
from cfaan_jax.report.label_review import review, suspects
from tests import tiny_records
from tests.data_prep.checks import check_refused
from tests.opened_page import open_page

pytestmark = pytest.mark.slow

HOSTILE = "<script>document.title='stolen'</script>\"'</script><!--é漢" + "x" * 300
PIDS = [1, 2, 3, 1, 1, 1, 2, 2, 2, 3, 3, 3, 0, 0, -1]  # three queries, then the gallery


def search_of(records) -> Search:
    """Tracklet 4 is labelled 1 and looks like 2, the distractor 12 looks like 3."""
    rng, shown = np.random.default_rng(0), np.array(PIDS)
    shown[4], shown[12], shown[13] = 2, 3, 4
    features = rng.normal(size=(6, 16))[shown] + 0.1 * rng.normal(size=(len(shown), 16))
    return Search.of_splits(features.astype(np.float32), *splits(records), tiny_records.ABOUT)


def splits(records) -> list[RecordSet]:
    return [RecordSet.open(records, split) for split in ("query", "gallery")]


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    rng, tracklets = np.random.default_rng(0), []
    for track, pid in enumerate(PIDS):
        name, split = HOSTILE if track == 4 else f"t{track}", "query" if track < 3 else "gallery"
        frames = [tiny_records.frame(rng, pid) for _ in range(2 + track)]
        candidates = (1 + (track == 9),) * len(frames)
        tracklets.append(tiny_records.tracklet(name, split, track, pid, 1 + track % 2, frames, candidates=candidates))
    return tiny_records.write(tmp_path_factory.mktemp("records"), tracklets, aligned=True)


@pytest.fixture
def page(records, tmp_path, chromium):
    """The page, freshly opened by a browser that remembers nothing of it."""
    review.write(search_of(records), records, tmp_path / "review", count=100)
    open_page(chromium, tmp_path / "review/review.html")
    chromium.execute_script("localStorage.clear()")
    chromium.refresh()
    chromium.get_log("browser"), chromium.get_log("performance")
    yield chromium
    assert not chromium.get_log("browser")  # neither errors nor anything that the policy had to stop
    loaded = chromium.execute_script("return performance.getEntriesByType('resource').map(each => each.name)")
    assert not [url for url in loaded if url.startswith("http")]


def text(browser, name: str) -> str:
    return browser.execute_script("return document.getElementById(arguments[0]).textContent", name)


def wait_until(browser, condition, message: str = "") -> None:
    """Waits for a condition: pages read files and hear other windows in their own time."""
    WebDriverWait(browser, 10).until(lambda _: condition(), message)


def press(browser, keys: str) -> None:
    for key in keys:
        browser.switch_to.active_element.send_keys(key)


def saved(browser, button: str, name: str):
    """The file that a button saves."""
    path = browser.downloads / name
    path.unlink(missing_ok=True)
    browser.find_element("id", button).click()
    wait_until(browser, lambda: path.exists() and path.stat().st_size, f"{name} was not saved")
    return path


def rows_of(browser) -> list[list[int]]:
    lines = saved(browser, "save-csv", "corrections.csv").read_text().splitlines()
    assert lines[0] == "track_id,pid,second_pid"
    return [[int(value) for value in line.split(",")] for line in lines[1:]]


def choose_kind(browser, kind: str) -> None:
    browser.execute_script("const menu = document.getElementById('filter'); menu.value = arguments[0]; menu.onchange()",
                           kind)


def test_the_first_question_is_the_wrong_label_and_one_key_answers_it(page):
    assert text(page, "title").endswith("labelled identity 1")
    assert HOSTILE in text(page, "tracklet")
    assert page.title.startswith("Label review")
    press(page, "s")
    assert rows_of(page) == [[4, 2, 2]]
    assert text(page, "done").startswith("1 of 14")


def test_each_key_does_what_it_says(page):
    choose_kind(page, suspects.DUPLICATE)
    assert text(page, "title").endswith("labelled a distractor")
    press(page, "s")  # not possible for a distractor
    assert text(page, "done").startswith("0 of")
    press(page, "d")
    choose_kind(page, suspects.AMBIGUOUS)
    assert "Two or more persons" in text(page, "reason")
    other = int(page.find_element("css selector", ".candidate .choice").text.split()[2])
    press(page, "anrk")
    rows = {row[0]: row[1:] for row in rows_of(page)}
    assert rows[12] == [3, 3] and rows[9] == [3, other]
    assert [4, 4] in rows.values()  # a new identity gets the next number
    assert sum(pids == [PIDS[track], PIDS[track]] for track, pids in rows.items()) == 1
    assert "1 skipped" in text(page, "done")


def test_another_identity_is_typed(page):
    press(page, "i77\n")
    assert "77 is not an identity" in text(page, "typed-error")
    press(page, "\b\b3\n")
    assert rows_of(page) == [[4, 3, 3]]


def test_a_whole_identity_and_the_second_choice(page):
    press(page, "2")
    assert page.find_element("css selector", ".candidate[aria-pressed=true] .choice").text.split()[2] == "3"
    press(page, "w")
    assert rows_of(page) == [[track, 3, 3] for track, pid in enumerate(PIDS) if pid == 1]
    press(page, "u")
    assert rows_of(page) == []


def test_nothing_is_lost_on_reload_and_undo_reaches_behind_it(page):
    press(page, "sr")
    before, title = rows_of(page), text(page, "title")
    page.refresh()
    assert rows_of(page) == before and text(page, "title") == title
    press(page, "uu")
    assert rows_of(page) == []
    assert text(page, "title").startswith("1 of")


def test_saved_files_correct_the_labels_alike(page, records, tmp_path):
    press(page, "s")
    choose_kind(page, suspects.AMBIGUOUS)
    press(page, "a")
    search = search_of(records)
    by_csv = corrections.read(saved(page, "save-csv", "corrections.csv")).apply(search.track_ids, search.pids)
    matrix = saved(page, "save-mat", "clean_tracks_test_info.mat")
    np.testing.assert_array_equal(corrections.read(matrix).apply(search.track_ids, search.pids), by_csv)
    assert by_csv[0][4] == 2 and (by_csv[1] != by_csv[0]).sum() == 1
    table = scipy.io.loadmat(matrix)["track_test_info"]
    assert table.shape == (15, 6) and table[0].tolist()[:4] == [1, 2, 1, 1] and table[1, :2].tolist() == [3, 5]


@pytest.mark.parametrize("button, name", [("save-csv", "corrections.csv"), ("save-mat", "clean_tracks_test_info.mat")])
def test_a_saved_review_goes_on_in_a_new_page(button, name, page, records, tmp_path):
    press(page, "s")
    rows, file = rows_of(page), saved(page, button, name)
    review.write(search_of(records), records, tmp_path / "again", count=100, corrections_file=file)
    page.execute_script("localStorage.clear()")
    open_page(page, tmp_path / "again/review.html")
    assert rows_of(page) == rows
    assert text(page, "decision") == "" or "Decided" in text(page, "decision")


def test_a_csv_is_read_on_the_page_and_a_bad_one_changes_nothing(page, tmp_path):
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_bytes('\ufefftrack_id, pid,second_pid,note\r\n5,"3",3,"x, ""y"""\r\n\r\n6,2,1,\r\n'.encode())
    assert corrections.read(good).pids.tolist() == [3, 2]
    bad.write_text("track_id,pid,second_pid\n5,1,1\n99,2,2\n")
    page.find_element("id", "load").send_keys(str(good))
    wait_until(page, lambda: not page.find_element("id", "undo").get_property("disabled"))
    assert rows_of(page) == [[5, 3, 3], [6, 2, 1]]
    page.find_element("id", "load").send_keys(str(bad))
    wait_until(page, lambda: "line 3: no test tracklet has track_id 99" in text(page, "warning"))
    assert rows_of(page) == [[5, 3, 3], [6, 2, 1]]


def test_what_no_command_would_take_is_refused(page, tmp_path):
    for number, (lines, message) in enumerate((("5,1,1\n5,1,1\n", "more than once"), ("5,2,0\n", "not identities"),
                                               ("5,-7,-7\n", "not identities"), ("", "no row"),
                                               (f"5,{10 ** 22},1\n", "three whole numbers"))):
        path = tmp_path / f"{number}.csv"
        path.write_text("track_id,pid,second_pid\n" + lines)
        page.find_element("id", "load").send_keys(str(path))
        wait_until(page, lambda words=(path.name, message): all(word in text(page, "warning") for word in words))
        if lines:
            with pytest.raises(InputError):
                corrections.read(path).apply(np.arange(len(PIDS)), np.array(PIDS))
    assert rows_of(page) == []


def test_a_candidate_without_an_identity_cannot_be_chosen(page):
    first = page.execute_script("return current().others[0][0]")
    page.execute_script("change([decided(arguments[0], 0)], 'test'); update()", first)
    press(page, "swa")
    assert rows_of(page) == [[first, 0, 0]]


def test_a_held_key_decides_once_and_where_all_is_decided_nothing_hidden_is(page):
    page.execute_script("for (let i = 0; i < 30; i++) document.body.dispatchEvent(new KeyboardEvent('keydown', "
                        "{key: 'r', repeat: i > 0, bubbles: true}))")
    assert len(rows_of(page)) == 1
    choose_kind(page, "open")
    press(page, 40 * "r")
    assert page.find_element("id", "empty").is_displayed()
    assert not page.find_element("id", "question").is_displayed()
    before = rows_of(page)
    press(page, "n")
    assert rows_of(page) == before


def test_two_windows_follow_each_other(page):
    first, url = page.current_window_handle, page.current_url
    page.switch_to.new_window("tab")
    second = page.current_window_handle
    page.get(url)
    press(page, "r")
    page.switch_to.window(first)
    wait_until(page, lambda: text(page, "done").startswith("1 of"))
    press(page, "rr")  # the first of these is what the other window has decided already
    page.switch_to.window(second)
    try:
        wait_until(page, lambda: text(page, "done").startswith("2 of"))
    finally:
        page.close()
        page.switch_to.window(first)
    assert text(page, "done").startswith("2 of")


def test_a_given_review_is_added_to_what_the_browser_kept(page, records, tmp_path):
    press(page, "r")
    kept = rows_of(page)
    given = tmp_path / "given.csv"
    given.write_text("track_id,pid,second_pid\n11,1,1\n")
    review.write(search_of(records), records, tmp_path / "again", count=100, corrections_file=given)
    open_page(page, tmp_path / "again/review.html")
    assert rows_of(page) == sorted([*kept, [11, 1, 1]]) and "were added" in text(page, "warning")


def test_without_detections_nothing_is_said_about_two_persons(records_directory):
    assert review.count_crowded(splits(records_directory)) is None


def test_other_records_are_refused(records, records_directory, tmp_path):
    check_refused("not the records", review.write, search_of(records), records_directory, tmp_path / "review", count=3)
    assert not (tmp_path / "review").exists()


def test_the_command_says_what_it_wrote_and_refuses_foreign_folders(records, tmp_path, capsys):
    features = tmp_path / "features.npz"
    search_of(records).save(features)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("dear")
    flags = [str(features), f"--records={records}"]
    check_refused("mine holds something else than these pages", review.main, [*flags, f"--out={tmp_path / 'mine'}"])
    assert (tmp_path / "mine/thesis.txt").read_text() == "dear"
    (tmp_path / "out").mkdir()
    for _ in range(2):
        review.main([*flags, f"--out={tmp_path / 'out'}", "--count=2"])
        assert "2 tracklets to look at" in capsys.readouterr().out
    mine = tmp_path / "out/corrections.csv"
    mine.write_text("track_id,pid,second_pid\n")
    review.main([*flags, f"--out={tmp_path / 'out'}", f"--corrections={mine}"])
    assert mine.read_text() == "track_id,pid,second_pid\n"
    for wrong in ([f"--out={features / 'below'}"], [f"--out={tmp_path / 'out'}", "--count=0"]):
        with pytest.raises(InputError):
            review.main([*flags, *wrong])
