"""The page that shows what is served, in a real browser."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow

ROUTES = {"POST /orders/{customer}", "GET /orders", "GET /stock/{sku}", "POST /quotes"}
OPERATIONS = """[...document.querySelectorAll('.opblock')].map(one =>
    one.querySelector('.opblock-summary-method').innerText + ' ' +
    one.querySelector('.opblock-summary-path').dataset.path)"""


def of_this_host(url, shop):
    return url.startswith((f"{shop.admin}/", "data:"))


async def test_the_page_shows_every_operation_and_asks_no_other_host(own_shop, page):
    await page.open(f"{own_shop.admin}/docs")
    await page.until("document.querySelectorAll('.opblock').length >= 4")
    assert set(await page.run(OPERATIONS)) >= ROUTES
    # Opened, an operation shows its parameters, its body and every answer.
    await page.run("document.querySelectorAll('.opblock-summary-control').forEach(one => one.click())")
    await page.until("document.querySelectorAll('.responses-table').length >= 4")
    assert await page.run("document.body.innerText.includes('unknown_outcome')")
    assert [] == [url for url in page.asked if not of_this_host(url, own_shop)]
    assert [] == page.complaints


async def test_the_page_links_every_document(own_shop, page):
    await page.open(f"{own_shop.admin}/docs")
    links = await page.run("[...document.querySelectorAll('nav a')].map(one => one.href)")
    assert [f"{own_shop.admin}/{name}" for name in ("openapi.json", "asyncapi.json", "contract.binpb")] == links


async def test_the_page_may_run_nothing_that_stands_in_it(own_shop, page):
    await page.open(f"{own_shop.admin}/docs")
    added = "document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = true'}))"
    await page.run(f"{added}; true")
    assert await page.run("window.ran === undefined")
    assert any("Content Security Policy" in text for text in page.complaints)
