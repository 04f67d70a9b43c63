"""A typed client of a running AddNorm service, for threads (`Client`) and for asyncio (`AsyncClient`).

Answers are those in `addnorm_client.models`; fields that a newer service adds to them are left out.
"""

from addnorm_client.asynchronous import AsyncClient
from addnorm_client.errors import AddNormAnswerError, AddNormClientError, AddNormConnectionError, AddNormHTTPError
from addnorm_client.retries import Retries
from addnorm_client.synchronous import Client

__all__ = [
    "AddNormAnswerError",
    "AddNormClientError",
    "AddNormConnectionError",
    "AddNormHTTPError",
    "AsyncClient",
    "Client",
    "Retries",
]
