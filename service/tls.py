"""TLS: whether the certificate and its key can be used."""

import ssl

from runtime.errors import SettingError
from service.settings import Settings


def check_tls(settings: Settings) -> None:
    """Raises SettingError unless certificate and key are there and fit together, or neither is set."""
    cert, key = settings.tls_cert, settings.tls_key
    if cert is None and key is None:
        return
    if cert is None or key is None:
        missing = "tls_cert" if cert is None else "tls_key"
        raise SettingError(f"{missing} is missing: TLS needs both, a file with the certificate and one with its key.")
    try:
        # an empty password, so that a key that has one is refused in the place of asking for it at the terminal
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise SettingError(
            f"{cert} and {key} cannot be used for TLS ({error}): name a certificate and its own key as PEM files, "
            "the key without a password."
        ) from error
