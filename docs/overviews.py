"""Files at the site's root for programs that read it: llms.txt and sitemap.xml."""

import html
import pathlib

from docutils import nodes

from skae._sklearn import DOCUMENTATION

# The first paragraph is cut after so many characters.
LONGEST_DESCRIPTION = 200


def write_overviews(app, exception):
    """Write both files, when the site is built."""
    if exception is None and app.builder.format == "html":
        folder = pathlib.Path(app.outdir)
        (folder / "llms.txt").write_text(llms(app), encoding="utf-8")
        (folder / "sitemap.xml").write_text(sitemap(app), encoding="utf-8")


def address(app, page):
    """Address of a page of the published site."""
    return DOCUMENTATION + app.builder.get_target_uri(page)


def pages_in_order(app, page, found=()):
    """A page, and those below it in the trees of contents, each once."""
    pages = {page: None}
    for child in app.env.toctree_includes.get(page, ()):
        if child not in found and child not in pages:
            pages |= pages_in_order(app, child, {*found, *pages})
    return pages


def description(app, page):
    """First paragraph of a page, in one line."""
    for paragraph in app.env.get_doctree(page).findall(nodes.paragraph):
        text = " ".join(paragraph.astext().split())
        if isinstance(paragraph.parent, nodes.section):
            is_long = len(text) > LONGEST_DESCRIPTION
            return text[:LONGEST_DESCRIPTION].rstrip() + "…" if is_long else text
    return ""


def llms(app):
    """Title, description and pages of the site, in Markdown (llmstxt.org)."""
    root = app.config.root_doc
    lines = [f"# {app.config.project}", "", f"> {description(app, root)}", ""]
    for page in pages_in_order(app, root):
        if page != root:
            title = app.env.titles[page].astext()
            text = description(app, page)
            link = f"- [{title}]({address(app, page)})"
            lines.append(f"{link}: {text}" if text else link)
    return "\n".join([*lines, ""])


def sitemap(app):
    """Addresses of all pages (sitemaps.org)."""
    pages = sorted(app.env.found_docs)
    urls = [f"<url><loc>{html.escape(address(app, p))}</loc></url>" for p in pages]
    return "\n".join(
        [
            '<?xml version="1.0" encoding="UTF-8"?>',
            '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">',
            *urls,
            "</urlset>",
            "",
        ]
    )
