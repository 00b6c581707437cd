"""The API described as OpenAPI 3.1, made from the tables that the API itself works by."""

from portward.api.openapi.document import make_document

__all__ = ["make_document"]
