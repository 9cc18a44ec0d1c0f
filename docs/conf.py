"""How Sphinx builds the documentation: MyST pages, Furo's looks, no network."""

project = "Stack Composer Telemetry"
author = "The Stack Composer developers"
project_copyright = "The Stack Composer developers"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["deflist"]
# Headings can be linked to from other pages.
myst_heading_anchors = 3
exclude_patterns = ["_build"]
nitpicky = False
autodoc_typehints = "description"
autodoc_member_order = "bysource"

html_theme = "furo"
html_title = "Stack Composer Telemetry"
# Pages are read from disk too: nothing is fetched from elsewhere, and no sources copied.
html_copy_source = False
