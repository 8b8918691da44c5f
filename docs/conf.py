"""How Sphinx builds the site: ``make docs``."""

import pathlib
import re
import sys
import tomllib
from functools import cache

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sklearn.base import BaseEstimator
from sklearn.experimental import enable_iterative_imputer  # noqa: F401, for links to it
from sphinx_gallery.sorting import ExplicitOrder

import skae

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))

# Beside this file.
import figures  # noqa: E402
from api_pages import (  # noqa: E402
    list_of_names,
    with_groups,
    with_methods,
    with_version,
)
from overviews import write_overviews  # noqa: E402

figures.draw_all()

project = "skae"
author = "The skae developers"
project_copyright = author
version = release = skae.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = [
    "_build",
    "examples",
    "held_out.md",  # part of guide/against_pca.md
]
templates_path = ["_templates"]
nitpicky = True
toc_object_entries_show_parents = "hide"

# -- Markdown --------------------------------------------------------------------------

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .gp, .go"

# -- API -------------------------------------------------------------------------------

autosummary_generate = True
autosummary_generate_overwrite = True
autodoc_member_order = "groupwise"
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# -- gallery ---------------------------------------------------------------------------

# In the order of the page; others come last in their section.
_SECTIONS_OF_EXAMPLES = [f"examples/{s}" for s in ("use", "understand", "reproduce")]
_EXAMPLES = [
    *("tables", "anomalies", "impute_categories", "imputation", "missing"),
    *("denoising", "features", "grid_search"),
    *("latent_walk", "ordered_code", "variational", "sparse", "mnist_errors"),
    *("mnist", "donuts_numpy", "donuts_keras", "one_hot", "one_hot_bias", "ring"),
    *("uncorrelated", "correlated"),
]

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    "nested_sections": False,
    "subsection_order": ExplicitOrder(_SECTIONS_OF_EXAMPLES),
    "within_subsection_order": ExplicitOrder(
        [*(f"plot_{name}.py" for name in _EXAMPLES), "*"]
    ),
    "doc_module": ("skae",),
    "reference_url": {"skae": None},
    "backreferences_dir": "generated/backreferences",
    "reset_modules": ("matplotlib",),
    "image_scrapers": ("matplotlib",),
    "image_srcset": ["2x"],
    "min_reported_time": 1,
    "download_all_examples": False,
    "show_memory": False,
    "write_computation_times": False,
    "notebook_extensions": {".py"},
    "show_signature": False,
    "remove_config_comments": True,
    "matplotlib_animations": False,
    "abort_on_example_error": False,
    "default_thumb_file": str(HERE / "images" / "demo.png"),
}

# -- pages -----------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = "skae"
html_static_path = ["_static"]
html_favicon = html_logo = "_static/logo.svg"
html_css_files = ["skae.css"]
html_show_sourcelink = False
html_copy_source = False
html_search_scorer = str(HERE / "search_scorer.js")
# The repository's address, if there is one: an icon in the header links to it.
_URLS = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"].get(
    "urls", {}
)
html_theme_options = {
    "logo": {"text": f"skae {release}"},
    "icon_links": [
        {"name": name, "url": address, "icon": "fa-brands fa-github"}
        for name, address in _URLS.items()
        if name == "Repository"
    ],
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "navbar_persistent": ["search-button"],
    "show_nav_level": 1,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_center": [],
    "footer_end": [],
    "back_to_top_button": False,
}
html_sidebars = {
    page: []
    for page in (
        "changelog",
        "contributing",
        "extending",
        "faq",
        "glossary",
        "index",
        "install",
        "reproductions",
        "tutorial",
    )
}
html_math_renderer = "mathml"


def mathml(is_block):
    """Formulas as MathML: browsers draw it without a script from elsewhere."""

    def visit(translator, node):
        tag = "div" if is_block else "span"
        text = node.astext().replace(r"\dots", r"\ldots")
        formula = tex2mathml(text, as_block=is_block)
        translator.body.append(f'<{tag} class="formula">{formula}</{tag}>')
        raise nodes.SkipNode

    return visit, None


# -- pages of the API ------------------------------------------------------------------

_LIST_OF_NAMES = HERE / "api.rst"
_names = list_of_names()
if not _LIST_OF_NAMES.exists() or _LIST_OF_NAMES.read_text() != _names:
    _LIST_OF_NAMES.write_text(_names)


def on_docstring(app, what, name, obj, options, lines):
    """What pages show beside the docstrings, after numpydoc."""
    if what == "class" and issubclass(obj, BaseEstimator):
        lines[:] = with_groups(lines, name)
    if what == "class":
        lines[:] = with_methods(lines, obj)
    if what in ("class", "function"):
        lines[:] = with_version(lines)


# -- links -----------------------------------------------------------------------------

_INCLUDED = re.compile(r"^```\{include\} (\S+)", re.MULTILINE)
_PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)")
_LINK = re.compile(r"((?<!!)\[[^\[\]]*\]\(|^\[[^\]]+\]: )([^)#\s]+)", re.MULTILINE)


@cache
def pages_of_files():
    """The page that stands for a file of the project, because it shows that."""
    pages = {}
    for page in [*HERE.glob("*.md"), *HERE.glob("*/*.md")]:
        text = page.read_text()
        included = [(page.parent / p).resolve() for p in _INCLUDED.findall(text)]
        for shown in [page, *included]:
            pictures = _PICTURE.findall(shown.read_text())
            pages |= {(shown.parent / p).resolve(): page for p in pictures}
        pages |= dict.fromkeys(included, page)
    return pages


def link_to_pages(text, folder):
    """Links to files that are part of a page lead to this page.

    In the sources they lead to the files, so that they work without the site, too.
    """

    def replaced(match):
        target = (folder / match[2]).resolve()
        page = pages_of_files().get(target)
        if page is None and target.suffix == ".md" and target.is_relative_to(HERE):
            page = target
        return f"{match[1]}/{page.relative_to(HERE)}" if page else match[0]

    return _LINK.sub(replaced, text)


_ARCHIVE = re.compile(r"^ *\.\. container:: \S+ sphx-glr-download-zip\n\n.*\n", re.M)


def on_source_read(app, docname, source):
    """Links of a page, and downloads of an example."""
    path = pathlib.Path(app.env.doc2path(docname))
    if path.suffix == ".md":
        source[0] = link_to_pages(source[0], path.parent)
    if docname.startswith("auto_examples/"):  # an archive of the one script
        source[0] = _ARCHIVE.sub("", source[0])


def on_include_read(app, relative_path, docname, source):
    """Links of a file that a page includes."""
    path = (HERE / relative_path).resolve()
    if path.suffix == ".md":
        source[0] = link_to_pages(source[0], path.parent)


# Where others document what our docstrings name. No inventory is fetched, so that the
# site can be built without a network.
_SKLEARN = "https://scikit-learn.org/stable/"
_PAGES = {
    "sklearn": f"{_SKLEARN}modules/generated/",
    "numpy": "https://numpy.org/doc/stable/reference/generated/",
    "matplotlib": "https://matplotlib.org/stable/api/_as_gen/",
}
# In the docstrings of methods that are inherited from scikit-learn.
_SECTIONS = {
    "df_output_transform": f"{_SKLEARN}modules/df_output_transform.html",
    "metadata_routing": f"{_SKLEARN}metadata_routing.html",
    "sphx_glr_auto_examples_miscellaneous_plot_set_output.py": (
        f"{_SKLEARN}auto_examples/miscellaneous/plot_set_output.html"
    ),
}


def external_address(target, kind):
    """Address of a name of another project; None if it is not known."""
    if kind == "term":
        return f"{_SKLEARN}glossary.html#term-{target}"
    pages = _PAGES.get(target.partition(".")[0])
    if pages is None:
        return _SECTIONS.get(target)
    # scikit-learn's methods stand on the pages of their classes.
    is_part = kind == "meth" and target.startswith("sklearn.")
    page = target.rpartition(".")[0] if is_part else target
    return f"{pages}{page}.html#{target}"


def on_missing_reference(app, env, node, content):
    """Link to the documentation of other projects."""
    address = external_address(node["reftarget"], node.get("reftype"))
    if address is None:
        return None
    reference = nodes.reference("", "", internal=False, refuri=address)
    reference += content
    return reference


def setup(app):
    """Connect the functions above."""
    app.add_html_math_renderer("mathml", mathml(False), mathml(True))
    app.connect("source-read", on_source_read)
    app.connect("include-read", on_include_read)
    app.connect("missing-reference", on_missing_reference)
    app.connect("autodoc-process-docstring", on_docstring, priority=900)
    app.connect("build-finished", write_overviews)
