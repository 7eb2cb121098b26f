"""Sphinx's settings: `sphinx-build -W --keep-going docs docs/_build` (extra `docs`)."""

from pathlib import Path
from typing import Annotated

from pydantic import TypeAdapter

import tftjax
from tftjax.config.loading import described
from tftjax.config.section import allowed, show

project, author, copyright = "tftjax", "the tftjax developers", "the tftjax developers, MIT licence"
version = release = tftjax.__version__
html_theme, html_title = "furo", "tftjax"
html_static_path, html_css_files = ["_static"], ["page.css"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "jupyter_execute"]

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3  # as on GitHub: [text](page.md#a-heading)
nb_execution_mode = "force"
nb_execution_timeout = 170
nb_execution_raise_on_error = True
nb_merge_streams = True

smartquotes = False  # quotes are JSON's
default_role = "code"  # docstrings have `names` between single backticks
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
napoleon_use_ivar = True

ROOT = Path(__file__).parents[1]
# Pages that are files of the repository.
OUTSIDE = {
    "contributing": "CONTRIBUTING.md",
    "changelog": "CHANGELOG.md",
    "security": "SECURITY.md",
    "data-files": "data/README.md",
}
SECTIONS = {
    "data": "Where the data come from, how rows are split and scaled.",
    "model": "Sizes of the network, its head, how attention treats old information and regimes.",
    "loss": "What is minimised.",
    "train": "How it is minimised.",
    "evaluation": "How forecasts are judged: no training is needed after a change.",
}


def settings() -> str:
    """The settings of a config, as Markdown: a heading a section, a list entry a setting."""
    lines, section = [], None
    for key, field in described().items():
        first = key.partition(".")[0] if "." in key else "name and notes"
        if first != section:
            section = first
            lines += [f"## {section}", "", SECTIONS.get(section, "At the top of the file."), ""]
        values = allowed(TypeAdapter(Annotated[field.annotation, field]).json_schema()).rstrip(",")
        default = "" if field.is_required() else show(field.get_default(call_default_factory=True))
        ending = f"default: `{default}`" if default else "has to be given"
        lines += [f"`{key}`", f": {field.description}", "", f"  {values}; {ending}", ""]
    return "\n".join(lines)


def complete(app, docname: str, source: list[str]) -> None:
    """Completes a page before it is read: the settings, and the files that lie outside of docs/."""
    if docname == "config":
        source[0] += "\n" + settings()
    if docname in OUTSIDE:
        text = (ROOT / OUTSIDE[docname]).read_text(encoding="utf-8")
        source[0] = text.replace("](docs/", "](")
    for page, file in OUTSIDE.items():
        source[0] = source[0].replace(f"](../{file})", f"]({page}.md)").replace(f"]({file})", f"]({page}.md)")


def setup(app) -> None:
    """Called by Sphinx."""
    app.connect("source-read", complete)
