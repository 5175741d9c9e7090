"""Secrets cut out of URLs and of texts, before either is written, exported or printed.

Guarantees: nothing here raises; the same call on its own result changes nothing; what is no secret is kept byte for
byte, for `?id=7&w=300` is the picture's identity. Time is linear in the length: a hostile megabyte takes two seconds or
three. A cut too many costs provenance, a cut too few publishes somebody's access: where a value may be either, it is
cut.

What is not found: a secret that is a plain step of the path (`/private/3b9ac2…/feed.xml`), and a value that reads like
a word or a number under a name that says nothing. The names are those that OpenTelemetry's `url.query`, Sentry's
scrubber and Rails' parameter filter agree on, and the parameters by which storage services and CDNs sign links.
"""

import re
from collections.abc import Callable
from itertools import pairwise
from urllib.parse import unquote, urlsplit

REDACTED = "REDACTED"
"""What stands where a secret stood."""

# Names of one word: a name is secret if one of its words is among them.
_NAMES = frozenset(
    """
    sig sign lsig usig sgn auth authn authz oauth authorization authenticity keys ak sk password passwd passcode pass
    pwd pw psw userpw sid ssid jwt cred creds policy hmac nonce otp totp ticket ticketid verify verification cookie csrf
    xsrf saml assertion salt crypt pem ohc gda cftoken hdnea hdnts hdntl hdnt
""".split()
)
# These are secret only where the value is long: `code=en`, `hash=top`, `st=2` are not.
_NAMES_OF_LONG = frozenset("code hash md5 sha sha1 sha256 digest checksum sas st mac".split())
_LONG_CHARS = 12
# Parts of a name without its separators, however it is spelled: accessToken, access-token, ACCESSTOKEN.
_NAME_PARTS = re.compile(
    r"token|secret|passw|passphrase|signature|credential|sess(?:ion)?id|bearer|authori[sz]ation"
    r"|^x(?:amz|goog|oss|tos|obs|cos)|^q(?:ak|sign)|^googleaccessid|^awsaccess"
)
# Words that a name betrays only beside others: Azure's shared access beside `sig`, Facebook's beside `oh`.
_BESIDE = {
    "sig": frozenset("se sp sv sr st spr sip ss srt ses skoid sktid skt ske sks skv sdd saoid suoid scid".split()),
    "oh": frozenset({"oh", "oe"}),
}

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")  # of camelCase
_NO_LETTER = re.compile(r"[\W\d_]+")
_NO_NAME = re.compile(r"[^\w.\-\[\]$]")
_TELLING = re.compile(
    r"(?i:secret(?!ar|ion|ing|ive)|token(?!i[sz])|passw(?:or)?d|credential|api[_-]?key|bearer\s)"
    r"|eyJ[\w-]{8}|A(?:KI|SI|RO|ID)A[A-Z0-9]{12}|//[^/?#@\s]*@"
)
_UUID = re.compile(r"(?<![0-9a-f])[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?![0-9a-f])", re.IGNORECASE)
_TIMESTAMP = re.compile(r"[A-Za-z]{0,4}(?:19|20)\d{6}(?:[Tt]?\d{4,9})?[Zz]?")  # also as cameras name files
# A playlist of YouTube is public and named by chance; without its name two of them would be one listing.
_PLAYLIST = re.compile(r"(?:PL|UU|FL|OLAK5uy_)[\w-]{16,40}", re.ASCII)
_TOKEN = re.compile(r"[A-Za-z0-9]{16,}")
_RUN = re.compile(r"[A-Za-z0-9_+/=-]{20,}")
_CHANGE = re.compile(r"[a-z](?=[A-Z0-9])|[0-9](?=[A-Za-z])|[A-Z](?=[0-9])")

_AUTHORITY = re.compile(r"(\s*(?:[a-z][a-z0-9+.\-]*:)?(?:\\?/){2,}|\s*https?:(?:\\?/)*)([^/]*)", re.IGNORECASE)
_AT = re.compile(r"@|%40", re.IGNORECASE)
_HOST = re.compile(r"(?:\[[^\]]*\]|[^:]*)(?::\d*)?\\?|[0-9a-fA-F:.%]*")
_BARE_USER = re.compile(r"(?!mailto:|acct:|sips?:|xmpp:|data:)[^/@:\s]+:[^/\s]*@", re.IGNORECASE)
_INNER_USER = re.compile(r"(:/{1,2})[^/\s]*@")
_STEP = re.compile(r"([/;])([^/;]+)")


def redacted_url(url: str) -> str:
    """The URL without user info and fragment, and with REDACTED for every value of its query or `;params` that is or
    may be a secret. Host, path and all other parameters stay as they are spelled.

    A URL that cannot be parsed loses its query whole.
    """
    return _until_stable(_url_once, url)


def is_redacted(url: str) -> bool:
    """True if a secret was cut from the URL's query or params, so that it leads nowhere any more."""
    head, _, query = url.partition("?")
    steps, values = re.split("[/;]", head), re.split("[&;]", query)
    return REDACTED in values or any(part.endswith(f"={REDACTED}") for part in steps + values)


def _until_stable(cut: Callable[[str], str], text: str) -> str:
    """Cut again until nothing changes: what is cut may bare another secret. Two passes were enough for all that was
    tried."""
    for _ in range(5):
        before, text = text, cut(text)
        if text == before:
            break
    return text


def _url_once(url: str) -> str:
    head, mark, query = url.partition("#")[0].partition("?")
    authority = _AUTHORITY.match(head)
    if authority is None:
        path = head[user.end() :] if (user := _BARE_USER.match(head)) else head
        return _path(path) + mark + _query(query)
    host, path, is_sound = _host(authority[2], head[authority.end() :])
    head = authority[1] + host + path
    try:
        urlsplit(head)
    except ValueError:
        is_sound = False
    return authority[1] + host + _path(path) + (mark + _query(query) if is_sound else "")


def _host(authority: str, path: str) -> tuple[str, str, bool]:
    """Host, path, and whether the host can be one. A port that is no number began a password: a raw `/`, `?` or `#` in
    it ended the authority too early, and a later `@` is where it really ends."""
    host = _AT.split(authority)[-1]
    is_sound = _HOST.fullmatch(host) is not None
    if is_sound:
        return host, path, True
    if "@" in path:
        host, slash, path = path.rpartition("@")[2].partition("/")
        path = slash + path
    return (host if _HOST.fullmatch(host) else host.partition(":")[0]), path, False


def _path(path: str) -> str:
    return _STEP.sub(_step, _INNER_USER.sub(r"\1", path))


def _step(match: re.Match[str]) -> str:
    """`;name=value`, or `/name=value` where no doubt is left: datasets name folders so (`/key=7/`)."""
    mark, step = match.groups()
    name, equals, value = step.partition("=")
    if "%" in step and _names_secret(plain := _plain(step)) | ("@" in plain and "//" in plain):
        is_url = "://" in plain or "%" in name
        return f"{mark}{'' if is_url else name}={REDACTED}"
    if not equals or not value:
        return match[0]
    is_secret = _is_secret_name(name, value) if mark == ";" else _NAME_PARTS.search(_glued(name)) or name[:4] == "hdnt"
    return f"{mark}{name}={REDACTED}" if is_secret or _is_secret_value(value) else match[0]


def _query(query: str) -> str:
    parts = query.split("&")
    names = {part.partition("=")[0].lower() for part in parts}
    beside = frozenset().union(*(others for name, others in _BESIDE.items() if name in names))
    return "&".join(_parameter(part, beside) if part else part for part in parts)


def _parameter(part: str, beside: frozenset[str]) -> str:
    """One parameter; `;` may separate further ones, or be part of a secret, which is therefore cut to its end."""
    pieces, done = part.split(";"), []
    for i, piece in enumerate(pieces):
        name, equals, value = piece.partition("=")
        if not value.strip("="):
            is_secret = _is_random(_plain(name)) if equals else _is_secret_value(name)
            done.append(REDACTED if is_secret else piece)
        elif name.lower() in beside or _is_secret_name(_plain(name), value):
            return ";".join([*done, f"{name}={REDACTED}"])
        elif name == "list" and _PLAYLIST.fullmatch(value):
            done.append(piece)
        else:
            done.append(f"{name}={REDACTED}" if _is_secret_value(value) else piece)
        if equals and not value and i + 1 < len(pieces) and _is_secret_name(_plain(name), value):
            return ";".join([*done, REDACTED])
    return ";".join(done)


def _is_secret_name(name: str, value: str) -> bool:
    words = {word.lower() for word in (*_WORD.findall(name), *_NO_LETTER.split(name))}
    if words & _NAMES or any(word.endswith("key") or word.startswith("sess") for word in words):
        return True
    if _NAME_PARTS.search(_glued(name)):
        return True
    return len(value) >= _LONG_CHARS and bool((words | {name.lower()}) & _NAMES_OF_LONG)


def _is_secret_value(value: str) -> bool:
    text = _plain(value)
    return _TELLING.search(text) is not None or _names_secret(text) or _is_random(text)


def _names_secret(text: str) -> bool:
    """True if a parameter within the text (a URL in a value, say) has a secret's name."""
    return any(
        _is_secret_name(_NO_NAME.split(left[-64:])[-1], right) for left, right in pairwise(text.split("=")) if right
    )


def _is_random(text: str) -> bool:
    """True if a piece of the text looks drawn by chance: 16 letters and digits mixed that are no date, or a longer run,
    dashes and the like included, that changes between small, capital and digit at every fourth place or more.

    Drawn from base64, such a run changes at four places of ten; words and file names do at less than two.
    """
    text = _UUID.sub(" ", text)
    for token in _TOKEN.findall(text):
        if not token.isalpha() and not token.isdigit() and not _TIMESTAMP.fullmatch(token):
            return True
    return any(
        4 * len(_CHANGE.findall(run)) >= len(run) and re.search("[a-z]", run) and re.search("[A-Z]", run)
        for run in _RUN.findall(text)
    )


def _glued(name: str) -> str:
    return _NO_LETTER.sub("", name).lower()


def _plain(text: str) -> str:
    """Percent-decoded three times: a URL in a URL in a URL."""
    for _ in range(3):
        if "%" not in text:
            break
        text = unquote(text)
    return text


# ---- texts ----

# From the two slashes on: the scheme holds no secret. Also as JSON escapes them, and as a URL in a URL does; and any
# query. A single quote ends it only where it closes: URLs may hold one.
_URL = re.compile(r"""(?:(?:\\?/){2}|%2F%2F|\?)(?:[^\s"'<>]|'(?![\s,.:;)\]}>]|$))+""", re.IGNORECASE)
_OPTION = re.compile(r"(?:\w+=)?[a-z][a-z0-9+.\-]*(?:::[a-z0-9]+)*://", re.IGNORECASE)
_SPACE = re.compile(r"\s")
_HEADER = re.compile(
    r"""\b((?:proxy-)?authorization|(?:set-)?cookie2?|x-api-key|x-auth-token)(["']?[ \t]{0,8}[:=][ \t]{0,8})"""
    r"[^\r\n]+",
    re.IGNORECASE,
)
_SCHEME = re.compile(r"\b(bearer|basic|digest|negotiate)([ \t]{1,8})([\w.~+/=-]{8,})", re.IGNORECASE)
_PAIR = re.compile(
    r"""((?:password|passwd|pwd|secret|token|api[_-]?key|signature|\bsig)=)([^\s&"'<>;,]+)""", re.IGNORECASE
)
_CLOSING = ".,:;!)]}"  # what a sentence or a bracket adds to a URL
# Keys that tell their maker by how they begin; none of the patterns needs anything behind what it has read.
_KEY = re.compile(
    r"\bA(?:KI|SI|RO|ID)A[A-Z0-9]{16}|\beyJ[\w-]{8,}(?:\.[\w-]+){0,2}|\bgh[pousr]_\w{20,}|\bgithub_pat_\w{20,}"
    r"|\bglpat-[\w-]{16,}|\bxox[abeprs]-[\w-]{10,}|\bAIza[\w-]{30,}|\b[sr]k_live_\w{10,}"
)


def redacted_text(text: str) -> str:
    """The text with every URL in it through `redacted_url`; and without values of authorization and cookie headers,
    `password=…` and the like, and keys that are told by their shape. A text without a space that begins as a URL is
    one."""
    if _OPTION.match(text) and _SPACE.search(text) is None:
        return redacted_option(text)
    return _until_stable(_text_once, text)


def _text_once(text: str) -> str:
    text = _HEADER.sub(rf"\1\2{REDACTED}", text)
    text = _SCHEME.sub(_credentials, text)
    text = _PAIR.sub(lambda match: match[1] + REDACTED + match[2][len(match[2].rstrip(_CLOSING)) :], text)
    text = _URL.sub(_url_within, text)
    return _KEY.sub(REDACTED, text)


def redacted_option(text: str) -> str:
    """An option's value: a URL or KIND=URL, which may hold spaces and quotes, or else a text."""
    if start := _OPTION.match(text):
        return text[: start.end() - 2] + redacted_url(text[start.end() - 2 :])
    return redacted_text(text)


def _url_within(match: re.Match[str]) -> str:
    url = match[0].rstrip(_CLOSING)
    rest = match[0][len(url) :]
    if url[:1] == "%":
        return (f"%2F%2F{REDACTED}" if _is_secret_value(url) else url) + rest
    return redacted_url(url) + rest


def _credentials(match: re.Match[str]) -> str:
    """The word alone is prose ("basic training"); what follows has a digit, padding or mixed case, or is long."""
    is_prose = re.search("[0-9=]|[a-z][A-Z]", match[3]) is None and len(match[3]) < 24
    return match[0] if is_prose else f"{match[1]}{match[2]}{REDACTED}"
