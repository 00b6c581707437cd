"""The root of every error that Portward raises on purpose.

What is refused here: messages for a particular audience. Each layer derives its own errors (the API maps
them to HTTP, the agent to a port's realisation); all of them say what to do next.
"""


class PortwardError(Exception):
    """Anything that Portward itself decides to refuse or report."""


class InvalidValue(PortwardError, ValueError):
    """A value that the model does not admit; the message names the value and what would be right."""
