"""Draw the pictures of the pages: what their own code draws.

A page shows a picture that its code has just drawn by naming a file in ``_figures``::

    ```python
    >>> LossCurveDisplay.from_estimator(autoencoder)
    ```

    ![The loss of training and of validation](../_figures/loss_curve.png)

The site's configuration calls `draw_all` before Sphinx reads the pages. It also draws
what `benchmarks/defaults/held_out.csv` holds.
"""

import contextlib
import csv
import doctest
import io
import pathlib
import re
import tempfile
import warnings

import matplotlib as mpl
import matplotlib.pyplot as plt

HERE = pathlib.Path(__file__).parent
FIGURES = HERE / "_figures"
HELD_OUT = HERE.parent / "benchmarks" / "defaults" / "held_out.csv"
DOTS_PER_INCH = 150

# Blocks of code, and pictures of this script.
_PARTS = re.compile(
    r"^```python\n(?P<code>.*?)^```$|^!\[[^\]]*\]\([^)]*_figures/(?P<picture>[^)]+)\)",
    re.DOTALL | re.MULTILINE,
)


def draw_all():
    """Draw the pictures of all pages that are newer than their pictures."""
    for page in sorted(HERE.rglob("*.md")):
        parts = [*_PARTS.finditer(page.read_text())]
        pictures = [FIGURES / part["picture"] for part in parts if part["picture"]]
        changed = page.stat().st_mtime
        if any(not p.exists() or p.stat().st_mtime < changed for p in pictures):
            draw(parts, page)

    draw_held_out()


def draw_held_out():
    """Draw how much more than PCA the autoencoder reconstructs of held-out samples."""
    gains = {"raw": [], "standardised": []}
    with HELD_OUT.open() as file:
        for row in csv.DictReader(file):
            gain = float(row["autoencoder_test"]) - float(row["pca_test"])
            gains[row["scaling"]].append(gain)
    FIGURES.mkdir(exist_ok=True)
    with mpl.rc_context({"backend": "Agg"}):
        figure, ax = plt.subplots(figsize=(7, 3), layout="constrained")
        names = ["raw features", "standardized features"]
        ax.hist([*gains.values()], bins=40, stacked=True, label=names)
        ax.axvline(0, color="k", linewidth=1)
        ax.set(xlabel="held-out R², autoencoder minus PCA", ylabel="cases")
        ax.legend()
        figure.savefig(FIGURES / "held_out.png", dpi=DOTS_PER_INCH)
        plt.close(figure)


def draw(parts, page):
    """Run the blocks of a page, and save the figures where pictures stand."""
    FIGURES.mkdir(exist_ok=True)
    names = {"__name__": "__main__"}
    with tempfile.TemporaryDirectory() as folder, mpl.rc_context({"backend": "Agg"}):
        for part in parts:
            if part["code"] is not None:
                run(part["code"], names, page, folder)
            elif not plt.get_fignums():
                raise ValueError(f"{page}: nothing is drawn before {part['picture']}")
            else:
                plt.gcf().savefig(
                    FIGURES / part["picture"], dpi=DOTS_PER_INCH, bbox_inches="tight"
                )
                plt.close("all")
    plt.close("all")


def run(source, names, page, folder):
    """Run a block, with prompts or without, in a folder for files that it writes.

    What it prints, and of what it warns, is the business of the tests.
    """
    examples = doctest.DocTestParser().get_examples(source)
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(action="ignore"),
    ):
        if not examples:
            exec(compile(source, str(page), "exec"), names)
        for example in examples:
            try:
                exec(compile(example.source, str(page), "single"), names)
            except Exception:
                if example.exc_msg is None:  # not an error that the page shows
                    raise
