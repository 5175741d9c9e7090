"""Addresses and URLs."""

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.curate.fetch.address import as_written, canonical, check_address, is_public, networks, shown
from pipeline.curate.stage import Leave

PRIVATE = [
    "10.0.0.1",
    "127.0.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "192.0.2.1",
    "168.63.129.16",
    "::ffff:168.63.129.16",
    "192.0.0.192",
    "100.100.100.200",
    "198.18.0.1",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fec0::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "2002:7f00:1::",
    "64:ff9b::7f00:1",
    "2001:0:0:0:0:0:80ff:fffe",
    "2001:db8::1",
]
PUBLIC = ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses(address):
    assert not is_public(address)
    with pytest.raises(Leave, match="private_address"):
        check_address(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address):
    assert is_public(address)


def test_an_allowed_network_allows_itself_only():
    allowed = networks(("127.0.0.0/8", "fd00::/8"))
    assert is_public("127.3.2.1", allowed) and is_public("::ffff:127.0.0.1", allowed) and is_public("fd12::1", allowed)
    assert not is_public("10.0.0.1", allowed) and not is_public("::1", allowed)


@settings(deadline=None)
@given(st.ip_addresses(v=4))
def test_wrapping_an_address_changes_nothing(address):
    plain = is_public(str(address))
    wrapped = [
        f"::ffff:{address}",
        str(ipaddress.IPv6Address((0x2002 << 112) | (int(address) << 80))),
        str(ipaddress.IPv6Address((0x64FF9B << 96) | int(address))),
    ]
    assert [is_public(text) for text in wrapped] == [plain] * 3


@pytest.mark.parametrize(
    ("url", "base", "expected"),
    [
        ("HTTP://Example.COM:80/a b?x=1#f", None, "http://example.com/a%20b?x=1"),
        ("https://example.com:443", None, "https://example.com/"),
        ("http://example.com?x=1", None, "http://example.com/?x=1"),
        ("https://example.com:8443/a/../b/./c", None, "https://example.com:8443/b/c"),
        ("../c.png?d=e#f", "http://example.com/a/b/", "http://example.com/a/c.png?d=e"),
        ("//cdn.example.com/x", "https://example.com/", "https://cdn.example.com/x"),
        ("https://münchen.example/ü", None, "https://xn--mnchen-3ya.example/%C3%BC"),
        ("http://2130706433/", None, "http://127.0.0.1/"),
        ("http://0xA9FEA9FE/", None, "http://169.254.169.254/"),
        ("http://0177.1/", None, "http://127.0.0.1/"),
        ("http://1e100.net/", None, "http://1e100.net/"),
        ("  http://example.com/%7Ea%2Fb  ", None, "http://example.com/~a%2Fb"),
    ],
)
def test_one_spelling_for_each_url(url, base, expected):
    assert canonical(url, base) == expected
    assert canonical(expected) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "/a",
        "ftp://a/b",
        "file:///a",
        "http://",
        "http:///a",
        "http://[::1",
        "javascript:1",
        "http://a:99999/",
        "http://a:b@c/",
        "http://a\\@b/",
        "http://999.1.1.1/",
        "data:,x",
    ],
)
def test_what_is_no_url_leaves(url):
    with pytest.raises(Leave) as leave:
        canonical(url)
    assert (leave.value.state, leave.value.reason, leave.value.retryable) == ("failed", "bad_url", False)


@settings(deadline=None)
@given(st.text(max_size=60).map("http://example.com/".__add__))
def test_canonical_is_idempotent(url):
    assert canonical(canonical(url)) == canonical(url)


def test_secrets_are_not_shown():
    assert shown("https://me:pw@a.example/x?sig=1#f") == "https://a.example/x"
    assert "pw" not in shown("http://me:pw@[::1/x?sig=secret") and "secret" not in shown("http://[::1/x?sig=secret")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h.example/a%2Fb/%3Ax%2C%28y%29%27%7e?q=%2f", None),
        ("http://h.example/tag:soundcloud,2010:tracks%2F1?Credential=AKIA%2F2026&s=a%27%27b", None),
        ("http://h.example/a?", None),
        ("http://h.example/a?b?c=/d", None),
        ("http://h.example/100%/x%zz", None),
        ("http://h.example//a//b/", None),
        ("http://h.example/a+b;c=1,2/~u/(x)!*'", None),
        ("HTTP://H.example:80/Ab#f", "http://h.example/Ab"),
        ("http://h.example?x=%7E", "http://h.example/?x=%7E"),
        ("http://h.example", "http://h.example/"),
        ('http://h.example/a b"<>`{}\\', "http://h.example/a%20b%22%3C%3E%60%7B%7D%5C"),
        (" http://h.example/caf\u00e9\n?q=\u65e5 ", "http://h.example/caf%C3%A9?q=%E6%97%A5"),
        ("http://m\u00fcnchen.example/\u00fc", "http://xn--mnchen-3ya.example/%C3%BC"),
        ("http://h.example/\udcc3\udca9", "http://h.example/%C3%A9"),
        ("//h.example/%7Ex", "https://h.example/%7Ex"),
        ("?Policy=ey%3D%3D&Key-Pair-Id=K%7E1", "https://base.example/dir/page?Policy=ey%3D%3D&Key-Pair-Id=K%7E1"),
        ("../%2e%2fb?", "https://base.example/%2e%2fb?"),
        ("x:y.png", None),
    ],
)
def test_a_url_is_asked_for_as_it_was_written(url, expected):
    if url == "x:y.png":
        with pytest.raises(Leave, match="bad_url"):
            as_written(url, "https://base.example/dir/page")
    else:
        assert as_written(url, "https://base.example/dir/page") == (expected or url)


@settings(deadline=None)
@given(st.text(st.sampled_from([chr(n) for n in range(33, 127) if chr(n) not in '#"<>`{}\\']), max_size=40))
def test_what_a_request_line_may_hold_is_left_alone(path):
    url = f"http://h.example/{path}"
    assert as_written(url) == url and as_written(as_written(url)) == url


@pytest.mark.parametrize("url", ["https://e.example:99999/a", f"https://{'a' * 64}.example/", "https://[::1/a"])
def test_what_is_no_url_is_told_in_words(url):
    with pytest.raises(Leave, match="bad_url") as leave:
        as_written(url)
    assert "host or port" in leave.value.detail and "Error" not in leave.value.detail
