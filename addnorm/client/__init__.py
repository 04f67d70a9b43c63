"""A typed client of a running service, for threads (`Client`) and for asyncio (`AsyncClient`).

Answers are the models of those in `service.schemas`; fields that a
newer service adds to them are left out.
"""

from addnorm.client.asynchronous import AsyncClient
from addnorm.client.errors import AddNormClientError, AddNormConnectionError, AddNormHTTPError
from addnorm.client.retries import Retries
from addnorm.client.synchronous import Client

__all__ = [
    "AddNormClientError",
    "AddNormConnectionError",
    "AddNormHTTPError",
    "AsyncClient",
    "Client",
    "Retries",
]
