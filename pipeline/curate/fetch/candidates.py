"""Which file of a picture to fetch: the largest of all that a page offers for it.

A page may offer the original behind a link or in an attribute of its gallery, several sizes (`srcset`), the file that a
script would load (`data-src` and its many kin), and `src`, which is then a small or an empty stand-in. What cannot be
decoded, is no file of the web or only holds a place is taken last, and known by `why_not`.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pipeline.curate.fetch.columns import word

_DECODABLE = frozenset("jpg jpeg jpe jfif pjp pjpeg png apng x-png gif webp avif".split())
# Endings of files that no decoder of ours reads; a path without an ending, or with `.php`, may lead to any picture.
_OTHER_FORMATS = frozenset("svg svgz svg+xml heic heif jxl jp2 jpx jxr ico bmp tif tiff psd pdf mp4 webm".split())
# Attributes in which galleries keep the original, the larger first: Jetpack, Gutenberg, WooCommerce, Squarespace and
# the zooming ones.
_ORIGINALS = """data-orig-file data-full-url data-full-src data-full data-fullsize data-original-src data-large_image
    data-large-file data-zoom-image data-zoom-src data-highres data-hires data-hi-res data-high-res-src data-image
    zoomfile""".split()
_LAZY = """data-src data-lazy-src data-original data-lazy data-lazyload data-actualsrc data-echo data-cfsrc
    data-delayed-url data-img-src data-img-url data-srv data-pagespeed-lazy-src data-backup lazy-src
    lazysrc file""".split()
# Any other attribute with an image's file in it may be a lazy loader's, unless its name says something else.
_NOT_THE_PICTURE = re.compile(
    r"placeholder|thumb|preview|low|lqip|blur|error|fallback|icon|avatar|poster|loading|share|pin|hover|logo|default"
    r"|small|medium|tiny|mini|title|alt|caption|desc|name|link|href|id$"
)
_FLAGS = frozenset("true false lazy eager auto yes no on off loaded loading".split())
_LAZY_SET = re.compile(r"srcset|-set$")
# Pages of MediaWiki, of code hosts and of old Blogger.
_NAMED_LIKE_A_FILE = re.compile(r"/blob/|/s\d+-h/")
_SIZES = re.compile(r"\.(?:jpe?g|png|gif|webp|avif)(?:\?[^\s,]*)?\s+\d+(?:\.\d+)?[wx](?![^\s,])", re.IGNORECASE)
_SAMPLE_CHARS = 1_000
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_TEMPLATE = re.compile(r"[{}<>]|%7B(?:width|height|size)", re.IGNORECASE)  # for a script to fill in
_MEDIA_WIDTH = re.compile(r"(?:min-width\s*:|width\s*>=?)\s*(\d+)(?:\.\d+)?\s*(r?em)?", re.IGNORECASE)
_ELSEWHERE = re.compile(r"prefers-color-scheme\s*:\s*dark|print|not\s+all|max-width|width\s*<", re.IGNORECASE)
_EM_PX = 16
_MOST_IN_SET = 500

# https://html.spec.whatwg.org/multipage/images.html#parse-a-srcset-attribute
_URL = re.compile(r"[ \t\n\f\r,]*+([^ \t\n\f\r]++)")
_DESCRIPTORS = re.compile(r"((?:[^,(]|\([^)]*+\)?)*+),?")
_WIDTH = re.compile(r"0*[1-9][0-9]*w")
_HEIGHT = re.compile(r"0*[1-9][0-9]*h")
_DENSITY = re.compile(r"((?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)x")

# Names of files that only hold a place. The words that photographs are named by as well count in graphics only.
_STAND_INS = frozenset("spacer spinner preloader lazyload lazy 1x1 noimage nophoto nopic".split())
_STAND_IN_WORDS = frozenset("blank pixel transparent empty loader loading clear trans grey gray".split())
_FILLERS = frozenset(
    """image images img gif png svg jpg pic picture photo ajax white black light dark bg px icon default no available
    coming soon not for load src small large square""".split()
)
_STAND_IN_HOSTS = re.compile(
    r"(?:https?:)?//(?:[^/]*\.)?(?:placehold(?:er)?\.|placekitten\.|dummyimage\.|lorempixel\.)", re.I
)
_NAME_PARTS = re.compile(r"[a-z]+|\d+x\d+|\d+")
_NAME_CHARS = 60

_WEB, _OTHER, _NOT_WEB, _STAND_IN, _INLINE = 4, 3, 2, 1, 0


class Candidate(NamedTuple):
    """A file that is offered; the best is the one with the largest `rank`, and of equal ones the first."""

    url: str
    fitness: int
    is_original: bool
    width: float  # in pixels; where none is said, the density

    @property
    def rank(self) -> tuple[int, bool, float]:
        """By which candidates are compared."""
        return self.fitness, self.is_original, self.width


def best(candidates: list[Candidate]) -> Candidate:
    """The one to fetch; there is at least one."""
    return max(candidates, key=lambda candidate: candidate.rank)


def why_not(candidate: Candidate) -> str | None:
    """The reason not to fetch even the best candidate: picture_inline, picture_placeholder or picture_svg; or None."""
    if candidate.fitness == _INLINE:
        return "picture_inline"
    if candidate.fitness == _STAND_IN:
        return "picture_placeholder"
    return "picture_svg" if ending(candidate.url) in ("svg", "svgz") else None


def is_hollow(candidates: list[Candidate]) -> bool:
    """True if there is no candidate but what holds a place."""
    return best(candidates).fitness <= _STAND_IN


def offered(values: Mapping[str, str]) -> list[Candidate]:
    """What the attributes of an image offer, the likeliest of equals first."""
    width = _pixels(values.get("width")) or 1.0
    lazy_sets = [
        candidate
        for name, value in values.items()
        if name != "srcset" and _is_set(name, value)
        for candidate in of_srcset(value, width)
    ]
    originals = [c for name in _ORIGINALS if _is_url(values.get(name)) for c in plain(values[name], width, True)]
    lazy = [c for value in _lazy(values) for c in plain(value, width)]
    # Beside what a script would load, `src` and `srcset` are stand-ins, whatever their sizes.
    sets = of_srcset(values.get("srcset", ""), 0.0 if lazy_sets else width)
    return [*originals, *lazy_sets, *sets, *lazy, *plain(values.get("src"), 0.0 if lazy or lazy_sets else width)]


def of_source(values: Mapping[str, str]) -> list[Candidate]:
    """What a `<source>` of a `<picture>` offers. One for narrow or dark screens is taken last: it may be cropped."""
    media = values.get("media", "")
    if _ELSEWHERE.search(media) and not _MEDIA_WIDTH.search(media):
        width = 0.0
    else:
        said = [float(number) * (_EM_PX if em else 1) for number, em in _MEDIA_WIDTH.findall(media)]
        width = max([*said, _pixels(values.get("width")) or 1.0])
    kind = values.get("type", "").partition(";")[0].strip().lower().rpartition("/")[2]
    sets = [value for name, value in values.items() if _is_set(name, value)]
    found = [candidate for value in sets for candidate in of_srcset(value, width)]
    if not kind or kind in _DECODABLE:
        return found
    return [candidate._replace(fitness=min(candidate.fitness, _OTHER)) for candidate in found]


def of_srcset(text: str, width: float) -> list[Candidate]:
    """Candidates of a `srcset`, without those whose descriptors are broken; a density is in units of `width` pixels,
    and at a `width` of 0 nothing counts. Linear in the text."""
    found: list[Candidate] = []
    position = 0
    while len(found) < _MOST_IN_SET and (address := _URL.match(text, position)):
        url, position = address[1], address.end()
        descriptors = ""
        if url.endswith(","):
            url = url.rstrip(",")
        elif described := _DESCRIPTORS.match(text, position):
            descriptors, position = described[1], described.end()
        size = _size(descriptors.split(), width)
        if url and size is not None:
            found += plain(url, size if width else 0.0)
    return found


def _size(descriptors: list[str], width: float) -> float | None:
    """Pixels wide; None if one is broken, or if they are more than the standard allows."""
    widths = [token for token in descriptors if _WIDTH.fullmatch(token)]
    heights = [token for token in descriptors if _HEIGHT.fullmatch(token)]
    densities = [found[1] for token in descriptors if (found := _DENSITY.fullmatch(token))]
    if len(widths) + len(heights) + len(densities) != len(descriptors):
        return None
    if len(widths) == 1 and len(heights) <= 1 and not densities:
        return float(widths[0][:-1])
    if widths or heights or len(densities) > 1:
        return None
    return float(densities[0]) * width if densities else width


def plain(url: str | None, width: float, is_original: bool = False) -> list[Candidate]:
    """The one candidate that an attribute names; none for what is no reference to a file."""
    url = word(url)
    if url is None or url.startswith("#"):
        return []
    return [Candidate(url, _fitness(url), is_original, width)]


def linked(href: str) -> list[Candidate]:
    """The original that a link around a picture leads to; none if it leads to a page, even one that is named like a
    file (`/wiki/File:Cat.jpg`, `/blob/main/cat.png`)."""
    href = href.strip()
    path = _path(href)
    name = path.rpartition("/")[2].lower()
    is_page = ":" in name or "%3a" in name or _NAMED_LIKE_A_FILE.search(path)
    if ending(href) not in _DECODABLE or is_page:
        return []
    return [candidate for candidate in plain(href, 0.0, True) if candidate.fitness == _WEB]


def ending(url: str) -> str:
    """The ending of a URL's file name, in lower case; empty if it has none."""
    name, dot, last = _path(url).rpartition("/")[2].rpartition(".")
    return last.lower() if dot and name else ""


def _path(url: str) -> str:
    path = url.partition("#")[0].partition("?")[0]
    if path.lower().startswith(("http://", "https://", "//")):
        return "/" + path.partition("//")[2].partition("/")[2]
    return path


def _fitness(url: str) -> int:
    if url[:5].lower() == "data:":
        return _INLINE
    if (scheme := _SCHEME.match(url)) and scheme[0].lower() not in ("http:", "https:"):
        return _NOT_WEB
    if is_stand_in(url) or _TEMPLATE.search(url[:2000]):
        return _STAND_IN
    return _OTHER if ending(url) in _OTHER_FORMATS else _WEB


def is_stand_in(url: str) -> bool:
    """True for a file that is named as placeholders, spacers and spinners are, and as nothing else."""
    name = _path(url).rpartition("/")[2].lower()
    stem = name.rpartition(".")[0] or name
    if not stem or len(stem) > _NAME_CHARS:
        return False
    if stem.startswith("placeholder") or stem.endswith("placeholder") or _STAND_IN_HOSTS.match(url):
        return True
    parts = _NAME_PARTS.findall(stem)
    is_graphic = ending(url) not in ("jpg", "jpeg")
    telling = _STAND_INS | _STAND_IN_WORDS if is_graphic else _STAND_INS
    is_no_image = "no" in parts and bool({"image", "img", "photo", "picture", "pic"} & set(parts))
    known = telling | _FILLERS
    return (is_no_image or not telling.isdisjoint(parts)) and all(part in known or part[0].isdigit() for part in parts)


def _lazy(values: Mapping[str, str]) -> Iterator[str]:
    """Files that a script would load instead of `src`."""
    widths = [int(number[:6]) for number in re.findall(r"\d+", values.get("data-widths", "")[:2000])]
    for name in _LAZY:
        value = values.get(name, "").strip()
        if value and value.lower() not in _FLAGS and not value.isdigit():
            yield value.replace("{width}", str(max(widths))) if widths else value  # as themes of Shopify write it
    for name, value in values.items():
        is_known = name in _LAZY or name in _ORIGINALS or name in ("src", "usemap", "style")
        if not is_known and not _NOT_THE_PICTURE.search(name) and _is_url(value) and ending(value) in _DECODABLE:
            yield value


def _is_set(name: str, value: str) -> bool:
    """True for an attribute that holds sizes of the picture, by its name or by what it holds."""
    is_set = _LAZY_SET.search(name) or _SIZES.search(value[:_SAMPLE_CHARS])
    return bool(is_set) and not _NOT_THE_PICTURE.search(name) and name != "sizes"


def _is_url(value: str | None) -> bool:
    """True for one reference to a file, and not a title or a number."""
    return value is not None and len(value.split(maxsplit=1)) == 1 and ("/" in value or ending(value) in _DECODABLE)


def _pixels(text: str | None) -> float | None:
    """The whole number that a width begins with, as browsers read it; None for a percentage or for no number."""
    digits = re.match(r"\s*(\d{1,6})(?!\d)(?![\d.]*%)", text or "")
    return float(digits[1]) if digits else None


def is_tiny(values: Mapping[str, str]) -> bool:
    """True for an image that is shown as a single pixel, or as none, and that no script replaces."""
    sides = [_pixels(values.get(name)) for name in ("width", "height")]
    return all(side is not None and side <= 1 for side in sides) and next(_lazy(values), None) is None
