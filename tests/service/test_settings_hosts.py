"""Hosts and origins in the settings: written as requests and browsers write them."""

import pytest
from pydantic import ValidationError

from service.settings import Settings


@pytest.mark.parametrize(
    ("given", "origins"),
    [
        ("https://page.example/", "https://page.example"),
        ("https://Page.example:443, http://[::1]:8000/,", "https://page.example,http://[::1]:8000"),
        ("http://a.example:80,https://a.example:80", "http://a.example,https://a.example:80"),
        ("chrome-extension://abcdef/, null", "chrome-extension://abcdef,null"),
        ("Safari-web-extension://1A2B-3C", "safari-web-extension://1A2B-3C"),
        (" * ", "*"),
        (" , ", ""),
    ],
)
def test_origins_are_written_as_browsers_write_them(given: str, origins: str):
    assert Settings(cors_origins=given).cors_origins == origins


@pytest.mark.parametrize(
    ("given", "hosts"),
    [
        (
            "localhost, 127.0.0.1,[::1],*.b.example,svc_1.example,*",
            "localhost,127.0.0.1,[::1],*.b.example,svc_1.example,*",
        ),
        ("localhost,127.0.0.1,::1, FD00::A", "localhost,127.0.0.1,[::1],[fd00::a]"),
        ("Example.com:8000,[::1]:80,127.0.0.1:1,*.b.example:443", "example.com,[::1],127.0.0.1,*.b.example"),
        (" ,", ""),
    ],
)
def test_hosts_are_names_addresses_and_all_below_a_name(given: str, hosts: str):
    assert Settings(allowed_hosts=given).allowed_hosts == hosts


def test_what_is_refused_is_quoted_as_it_was_given():
    with pytest.raises(ValidationError, match=r"'HTTPS://A\.example/x/' is no origin"):
        Settings(cors_origins="HTTPS://A.example/x/")
