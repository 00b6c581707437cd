"""The page of policy rules, from ``portward.api.rbac``."""

from portward.api.rbac import DEFAULTS
from tools.markdown import table


def text() -> str:
    """What the page's template leaves to the code."""
    rows = [(f"`{rule.name}`", f"`{rule.check}`", rule.description) for rule in DEFAULTS]
    return table(("rule", "default", "asked for"), rows)
