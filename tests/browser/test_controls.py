"""The controls of the pages, used as a person would: with the mouse, and with the keyboard alone."""

import re

import pytest

NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")


@pytest.fixture
def study(visit, site):
    v = visit(site / "one-at-a-time.html")
    yield v.page
    assert v.errors == []


def arms(page):
    """The names in the ablation table that are not filtered away, in their order."""
    return list(page.locator("#arms tbody tr:visible > th").all_inner_texts())


def column(page, key):
    """The numbers in a column of the ablation table, None where there is none, the baseline's left out."""
    rows = page.locator("#arms tbody tr[data-kind]").all()
    texts = [" ".join(row.locator(f"td.{key}").all_inner_texts()).replace("−", "-") for row in rows]
    found = [NUMBER.search(text) for text in texts]
    return [float(number[0]) if number else None for number in found]


@pytest.mark.parametrize("key", ["effect", "p_holm", "n", "mde", "time"])
def test_a_heading_sorts_the_rows_and_turns_the_order_round(study, key):
    head = study.locator(f"#arms th.{key}")
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    found = column(study, key)
    known = [v for v in found if v is not None]
    assert known == sorted(known, reverse=True)
    assert len(known) == 6
    assert found[6:] == [None], "the skipped arm has no number, and is last"
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    found = column(study, key)
    assert found == [*sorted(known), None]
    assert arms(study)[0] == "baseline", "the reference stays on top"
    assert study.locator("#arms th[aria-sort]").count() == 1


def test_names_sort_as_words_and_by_the_keyboard(study):
    button = study.locator("#arms thead th").first.locator("button")
    button.focus()
    study.keyboard.press("Enter")
    names = [a for a in arms(study) if a != "baseline"]
    assert names == sorted(names)
    study.keyboard.press("Space")
    assert [a for a in arms(study) if a != "baseline"] == sorted(names, reverse=True)


def test_the_filter_keeps_the_rows_that_have_every_word(study):
    box = study.locator("#arm-filter input[name=arm]")
    box.fill("E")
    assert arms(study) == ["baseline", "ema", "placebo control"]
    assert study.locator("#arm-filter output").inner_text().startswith("2 of 7 arms")
    box.fill("e m")
    assert arms(study) == ["baseline", "ema"]
    box.fill("nothing like it")
    assert arms(study) == ["baseline"]
    study.locator("#arm-filter [type=reset]").click()
    study.locator("#arms tbody tr:visible").nth(7).wait_for()
    assert len(arms(study)) == 8
    assert box.input_value() == ""


def test_a_verdict_filters_and_agrees_with_the_badges(study):
    for box in study.locator("#arm-filter [name=kind]").all():
        kind = box.get_attribute("value")
        box.check()
        shown = study.locator("#arms tbody tr[data-kind]:visible td.kind").all_inner_texts()
        assert shown
        assert all(kind in text for text in shown), (kind, shown)
        box.uncheck()
    assert len(arms(study)) == 8


def drawn(study):
    """The arms whose curves each plot shows."""
    return [
        {int(group.get_attribute("data-arm")) for group in plot.locator("g[data-arm]").all() if group.is_visible()}
        for plot in study.locator(".plot").all()
    ]


def test_boxes_switch_curves_on_and_off(study):
    boxes = study.locator("input[data-arm]")
    every = {int(box.get_attribute("data-arm")) for box in boxes.all()}
    assert len(every) == 7
    study.locator("button[data-all='']").click()
    assert drawn(study) == [set()] * 3
    study.locator("input[data-arm='2']").check()
    assert drawn(study) == [{2}] * 3
    study.locator("button[data-all='on']").click()
    assert drawn(study) == [every] * 3
    study.locator("input[data-arm='0']").uncheck()
    assert drawn(study) == [every - {0}] * 3


def test_arrow_keys_read_out_values_with_their_n_and_escape_ends_it(study):
    plot = study.locator(".plot").first
    plot.focus()
    study.keyboard.press("ArrowRight")
    told = plot.locator("output")
    assert told.is_visible()
    assert re.search(r"epoch \d+", told.inner_text())
    assert re.search(r"baseline [\d.]+%? \[.*\], n = 6", told.inner_text())
    study.keyboard.press("Escape")
    assert not told.is_visible()


def test_the_pointer_reads_out_values_too(study):
    plot = study.locator(".plot").first
    plot.locator("svg.panel").hover()
    assert "epoch" in plot.locator("output").inner_text()


def test_a_button_exchanges_the_axis_of_the_forest(study):
    button = study.locator("button[data-swap=forest]")
    drawings = study.locator("[data-swapped=forest]")
    assert [d.is_visible() for d in drawings.all()] == [True, False]
    button.press("Enter")
    assert [d.is_visible() for d in drawings.all()] == [False, True]
    assert button.get_attribute("aria-pressed") == "true"


def test_the_first_stop_of_the_keyboard_skips_to_the_results(study):
    study.keyboard.press("Tab")
    link = study.locator(":focus")
    assert link.get_attribute("href") == "#main"
    assert link.is_visible()
    study.keyboard.press("Enter")
    assert study.evaluate("location.hash") == "#main"
    assert study.locator("#main").count() == 1


def test_without_scripts_everything_is_there_and_no_dead_control(scriptless, site):
    page = scriptless.page
    page.goto((site / "one-at-a-time.html").as_uri())
    assert len(arms(page)) == 8
    assert page.locator("#arm-filter").is_hidden()
    assert page.locator("button[data-swap], [data-set], button[data-all]").filter(visible=True).count() == 0
    assert page.locator(".plot g[data-arm]").count() > 0


@pytest.mark.parametrize(("name", "word"), [("index", "noisy"), ("tricks", "mixup")])
def test_lists_filter_as_one_types_and_say_how_many_are_left(visit, site, name, word):
    page = visit(site / f"{name}.html").page
    form, items = page.locator("form.filter"), page.locator("[data-text]")
    before = items.filter(visible=True).count()
    form.locator("input").fill(word)
    shown = items.filter(visible=True)
    assert 0 < shown.count() < before
    assert all(word in item.get_attribute("data-text") for item in shown.all())
    assert form.locator("output").inner_text().startswith(f"{shown.count()} of {before} ")
    form.locator("input").fill("nothing like it")
    assert shown.count() == 0
    assert page.locator("#no-match").is_visible()


def test_the_site_leads_from_the_index_to_a_study_and_a_trick_and_back(visit, site):
    page = visit(site / "index.html").page
    page.get_by_role("link", name=re.compile("study one-at-a-time")).click()
    assert page.url.endswith("/one-at-a-time.html")
    page.locator("#arms").get_by_role("link", name="mixup").click()
    assert page.url.endswith("/tricks/mixup.html")
    page.get_by_role("navigation").get_by_role("link", name="Studies").click()
    assert page.url.endswith("/index.html")
