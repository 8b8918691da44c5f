"""The built site, as a visitor sees it in Chromium: ``make test-docs``."""

import functools
import html.parser
import http.server
import shutil
import threading
import urllib.parse
from pathlib import Path

import pytest

import skae
from skae._sklearn import DOCUMENTATION

webdriver = pytest.importorskip("selenium.webdriver")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

SITE = Path(__file__).parents[2] / "docs" / "_build" / "html"
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
NARROW, WIDE = 400, 1300
TIMEOUT = 30  # seconds

pytestmark = pytest.mark.skipif(
    not (SITE / "index.html").exists(), reason="the site is not built: make docs"
)

# What sticks out on the right, but for what is in a box that scrolls or is hidden.
CUT_OFF = """
const limit = document.documentElement.clientWidth + 1;
const isClipped = (element) => {
  // The article scrolls, too, where something in it is too wide.
  let box = element.parentElement;
  for (; !box.matches(".bd-article"); box = box.parentElement) {
    const overflow = getComputedStyle(box).overflowX;
    if (["auto", "scroll"].includes(overflow) && box.scrollWidth > box.clientWidth)
      return box.getBoundingClientRect().right <= limit;
  }
  return false;
};
return [...document.querySelectorAll(".bd-article *")]
  .filter((e) => e.checkVisibility({visibilityProperty: true}))
  .filter((e) => e.getBoundingClientRect().right > limit && !isClipped(e))
  .map((e) => `${e.tagName} ${e.className}: ${e.textContent.slice(0, 40)}`);
"""


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def address():
    handler = functools.partial(_QuietHandler, directory=SITE)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def chromium():
    if not (CHROMIUM and DRIVER):
        pytest.skip("chromium or chromedriver is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    # Without a sandbox, as containers run it as root.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(TIMEOUT)
    yield driver
    driver.quit()


@pytest.fixture
def visit(chromium, address):
    """Open a page, by its name, at a width."""

    def open_page(name, width, query=""):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        chromium.get(f"{address}/{name}.html{query}")
        return chromium

    return open_page


def click(driver, selector, title):
    """Click on a link or card, and wait for the page that begins with a title."""
    link = driver.find_element(By.CSS_SELECTOR, selector)
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", link)
    link.click()
    WebDriverWait(driver, TIMEOUT).until(
        lambda d: d.find_element(By.TAG_NAME, "h1").text.strip("#").startswith(title)
    )


def pictures(driver):
    """Natural widths of the pictures of the article, loaded."""
    return driver.execute_async_script(
        """
        const images = [...document.querySelectorAll(".bd-article img")];
        images.forEach((image) => (image.loading = "eager"));
        const done = arguments[arguments.length - 1];
        Promise.allSettled(images.map((image) => image.decode())).then(() =>
          done(images.map((image) => image.naturalWidth)));
        """
    )


class _Page(html.parser.HTMLParser):
    """Where a page can be entered, and where it leads."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.links = {"", "top"}, set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.anchors |= {attributes.get("id"), attributes.get("name")}
        sources = (attributes.get("srcset") or "").split(",")
        candidates = [attributes.get("href"), attributes.get("src")]
        candidates += [source.split()[0] for source in sources if source.strip()]
        self.links |= {link for link in candidates if link}


def test_links():
    """Those within the site lead somewhere, to their anchors, too; so do pictures."""
    paths = {path.resolve() for path in SITE.rglob("*.html")}
    # Files of the theme are no pages.
    pages = {path: _Page(path) for path in paths if "_static" not in path.parts}
    dead = []
    for path, page in pages.items():
        for link in page.links:
            url = urllib.parse.urlsplit(link)
            if url.scheme or url.netloc:
                continue
            name = urllib.parse.unquote(url.path)
            target = (path.parent / name).resolve() if name else path
            is_there = target.exists() and target.is_relative_to(SITE.resolve())
            if is_there and target in pages:
                anchors = pages[target].anchors
                is_there = urllib.parse.unquote(url.fragment) in anchors
            if not is_there:
                dead.append(f"{path.relative_to(SITE.resolve())}: {link}")
    assert dead == []
    assert sum(len(page.links) for page in pages.values()) > 1000


def test_estimators_link_to_their_pages():
    """In notebooks, where the site is published."""
    for estimator in (
        skae.AutoencoderTransformer(),
        skae.VariationalAutoencoderTransformer(),
        skae.dask.DaskAutoencoderTransformer(),
    ):
        page = estimator._get_doc_link().removeprefix(DOCUMENTATION)
        assert (SITE / page).is_file(), page


def test_from_the_start_to_an_example(visit):
    driver = visit("index", WIDE)
    assert min(pictures(driver)) > 0
    click(driver, ".bd-article a[href*='auto_examples/index']", "Gallery")
    thumbnails = pictures(driver)
    assert len(thumbnails) >= 3
    assert min(thumbnails) > 0
    click(driver, ".bd-article a[href*='plot_sparse']", "See what the units")
    drawn = pictures(driver)
    assert len(drawn) >= 2
    assert min(drawn) > 0


def test_from_the_start_to_the_api(visit):
    driver = visit("index", WIDE)
    click(driver, ".bd-article a[href$='api.html']", "API")
    click(
        driver,
        ".bd-article a[href*='skae.AutoencoderTransformer']",
        "AutoencoderTransformer",
    )
    members = [e.get_attribute("id") for e in driver.find_elements(By.TAG_NAME, "dt")]
    for method in ("fit", "transform", "inverse_transform", "score", "coefs_"):
        assert f"skae.AutoencoderTransformer.{method}" in members
    examples = ".sphx-glr-thumbcontainer a[href*='plot_sparse']"
    assert driver.find_elements(By.CSS_SELECTOR, examples)


# What visitors look for -> pages that tell of it.
SEARCHES = {
    "inverse_transform": ("generated/skae.AutoencoderTransformer",),
    "threshold": ("guide/detection",),
    "outlier": ("guide/detection", "generated/skae.AutoencoderOutlierDetector"),
    "anomaly": ("guide/detection", "faq"),
    "overfitting": ("guide/training", "guide/against_pca", "faq"),
    "early stopping": ("guide/training", "faq"),
    "progress bar": ("guide/training", "faq"),
    "imputation": ("guide/imputation",),
    "missing values": ("guide/missing", "guide/imputation"),
    "categorical": ("guide/tables",),
    "denoising": ("guide/denoising",),
    "sparse": ("guide/sparse",),
    "VAE": ("guide/variational",),
    "embedding": ("guide/concepts", "faq"),
    "save model": ("guide/persistence", "faq"),
    "UMAP": ("faq", "guide/concepts"),
    "GPU": ("faq", "guide/speed"),
    "Dask": ("guide/dask",),
    "ONNX": ("guide/onnx",),
    "grid search": ("guide/choose_size", "tutorial"),
}


@pytest.mark.parametrize("words", SEARCHES)
def test_search_finds(visit, address, words):
    """One of the first two results leads to a page that tells of it."""
    driver = visit("search", WIDE, f"?q={urllib.parse.quote(words)}")
    found = WebDriverWait(driver, TIMEOUT).until(results)["links"][:2]
    pages = [link.removeprefix(f"{address}/").partition(".html")[0] for link in found]
    assert set(pages) & set(SEARCHES[words]), pages


def results(driver):
    """Where the results of a search lead; None until it has finished."""
    return driver.execute_script(
        """
        const text = document.querySelector("#search-results")?.textContent ?? "";
        if (!/Search finished|did not match/.test(text)) return null;
        const links = [...document.querySelectorAll("#search-results li a")];
        return {links: links.map((link) => link.href)};
        """
    )


def test_files_for_programs_list_all_pages():
    """llms.txt and sitemap.xml, at the published address."""
    llms = (SITE / "llms.txt").read_text()
    sitemap = (SITE / "sitemap.xml").read_text()
    assert llms.startswith("# skae\n\n> ")
    for name in set(NAMES) - {"genindex", "py-modindex", "search"}:
        address = f"{DOCUMENTATION}{name}.html"
        assert f"<loc>{address}</loc>" in sitemap
        assert name == "index" or f"]({address})" in llms


def test_every_example_is_a_notebook_too():
    pages = sorted(SITE.glob("auto_examples/*/plot_*.html"))
    assert len(pages) > 15
    for page in pages:
        links = {link.rpartition("/")[2] for link in _Page(page).links}
        assert {f"{page.stem}.py", f"{page.stem}.ipynb"} <= links


def test_the_version_is_shown(visit):
    driver = visit("index", WIDE)
    header = driver.find_element(By.CSS_SELECTOR, ".navbar-brand").text
    assert skae.__version__ in header


NAMES = sorted(
    path.relative_to(SITE).with_suffix("").as_posix()
    for path in SITE.rglob("*.html")
    if not {"_modules", "_static"} & set(path.parts)
)


@pytest.mark.parametrize("name", NAMES)
def test_fits_a_narrow_screen(visit, name):
    """Pages do not scroll sideways; tables, code and formulas do in their boxes."""
    driver = visit(name, NARROW)
    width = driver.execute_script("return document.scrollingElement.scrollWidth")
    assert width <= NARROW
    assert driver.execute_script(CUT_OFF) == []


@pytest.mark.parametrize("name", NAMES)
def test_has_all_that_it_loads(visit, address, name):
    """Scripts, styles, fonts and pictures, and none from elsewhere."""
    driver = visit(name, WIDE)
    assert min(pictures(driver), default=1) > 0
    log = driver.get_log("browser")
    assert [entry["message"] for entry in log if entry["source"] == "network"] == []
    loaded = driver.execute_script(
        "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    )
    assert [url for url in loaded if not url.startswith(address)] == []
