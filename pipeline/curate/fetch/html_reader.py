"""What an HTML page says of itself and of its pictures, read from its tags in one pass, without building a tree.

A caption belongs to the innermost figure; several captions of a figure are dealt to as many pictures, one to all of
them. Images inside a caption are no part of its figure. Terms that are named within a figure or an item of microdata
are those of the pictures in it. Inline drawings, backgrounds of style sheets, buttons (`<input type=image>`), frames
and templates are no pictures; an image without any file is none either.

Time is linear, and memory too: what is open at once is bounded, and what passes the bound is read as if it had not been
marked up.
"""

import re
from collections import Counter
from dataclasses import dataclass, field

from pipeline.curate.fetch.candidates import Candidate, is_tiny, linked, of_source, offered, plain
from pipeline.curate.fetch.frames import Frame, Text, innermost, is_caption, is_figure
from pipeline.curate.fetch.linked_data import MAX_CHARS, described
from pipeline.curate.fetch.markup import Tag, tokens
from pipeline.curate.fetch.pictures import Picture, terms, tidy
from pipeline.curate.fetch.social import Social

_VOID = frozenset("area base br col embed hr img input link meta param source track wbr".split())
_APART = frozenset(
    """br p div section article header footer ul ol li dl dt dd table tr td th h1 h2 h3 h4 h5 h6 blockquote pre hr
    figure figcaption main aside nav form""".split()
)
_ENDED_BY_ITS_LIKE = frozenset({"p", "li", "dd", "dt", "td", "th", "figcaption"})
_SOURCES = {"img": "src", "amp-img": "src", "amp-anim": "src", "image": "src", "object": "data", "video": "poster"}
_TERMS = frozenset({"license", "acquireLicensePage", "creditText", "copyrightNotice"})
_MAX_PICTURES = 20_000
_MAX_FRAMES = 64
_MAX_OPEN = 4
_MAX_BASE_CHARS = 4_000
_REFERRED = re.compile(r"""aria-(?:labelledby|describedby)\s*=\s*["']?([^"'>]{1,500})""", re.IGNORECASE)
_MAX_REFERRED = 2_000
_REFERENCE = re.compile(r"(?<=\S)\[ ?(?:\d{1,3}|[a-z]|note \d{1,2}|citation needed) ?\]")  # of encyclopedias


@dataclass
class Page:
    """What a page says of itself, and its pictures in order; `mentioned` are those of its metadata, which may be the
    same. `next_url` is the page that continues it, as it is written; `is_cut` tells of more pictures than are read."""

    base: str | None = None
    language: str | None = None
    license: str | None = None
    next_url: str | None = None
    is_cut: bool = False
    metas: list[tuple[str, str]] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    mentioned: list[Picture] = field(default_factory=list)


class Reader:
    """Reads one page: `read`, then `page` is complete."""

    def __init__(self) -> None:
        self.page = Page()
        self._social = Social()
        self._levels: Counter[str] = Counter()  # how deep in elements of this name
        self._frames: list[Frame] = []
        self._texts: list[Text] = []
        self._referred: set[str] = set()
        self._by_id: dict[str, str] = {}
        self._linked: list[Candidate] = []  # the original that the open link leads to, for the first picture in it
        self._sources: list[Candidate] = []  # of the open <picture>, for the first image in it
        self._neighbour: tuple[Picture, bool, Frame | None] | None = None
        self._terms: set[str] = set()  # that links of the page name
        self._is_unescaping = False
        self._json_chars = MAX_CHARS

    def read(self, text: str) -> Page:
        """The page; what is left open ends with it."""
        for found in _REFERRED.finditer(text):
            if len(self._referred) < _MAX_REFERRED:
                self._referred.update(found[1].split()[:8])
        self._feed(text)
        while self._texts:
            self._close_text(self._texts[-1])
        while self._frames:
            self._close_frame()
        for picture in self.page.pictures:
            picture.captions[:0] = self._named(picture.described_by)
            picture.captions += self._named(picture.labelled_by)
        self.page.mentioned = [*self._social.pictures(), *self.page.mentioned]
        if self.page.license is None and len(self._terms) == 1:
            self.page.license = self._terms.pop()
        return self.page

    def _named(self, ids: list[str]) -> list[str]:
        return [text for name in ids if (text := self._by_id.get(name))]

    def _feed(self, text: str) -> None:
        for token in tokens(text):
            if isinstance(token, str):
                self._on_text(token)
            elif token.is_end:
                self._on_end(token.name)
            else:
                self._on_start(token)

    # ---- tags ----

    def _on_start(self, tag: Tag) -> None:
        name, values = tag.name, tag.values
        self._head(name, values)
        if self._levels["template"] and name != "template":
            return
        if name in _APART:
            self._part(name)
        if name not in _VOID:
            self._levels[name] += 1
        if name == "script" and tag.raw and "ld+json" in values.get("type", "").lower():
            self.page.mentioned += described(tag.raw[: self._json_chars])
            self._json_chars -= min(len(tag.raw), self._json_chars)
        if name == "a":
            self._linked = linked(values.get("href", ""))
        elif name == "picture":
            self._sources = []
        elif name == "source" and self._levels["picture"]:
            self._sources += of_source(values)[: max(0, 500 - len(self._sources))]
        if is_figure(name, values) or "itemscope" in values:
            self._open_frame(name, values)
        self._collect(name, values)
        if name in _SOURCES:
            self._image(name, values)

    def _part(self, name: str) -> None:
        """What begins here stands apart, and ends a paragraph, or an entry before it, that was left open."""
        for text in self._texts[:]:
            text.append(" ")
            if name != "br" and (text.tag == "p" or (text.tag == name and name in _ENDED_BY_ITS_LIKE)):
                self._close_text(text)

    def _on_end(self, name: str) -> None:
        level = self._levels[name]
        if not level or (self._levels["template"] and name != "template"):
            return
        if name in _APART:
            self._append(" ")
        for text in [text for text in self._texts if text.tag == name and text.level >= level]:
            self._close_text(text)
        frame = innermost(self._frames, (name,))
        if frame is not None and frame.level >= level:
            while self._close_frame() is not frame:
                pass
        self._levels[name] = level - 1
        if name == "a":
            self._linked = []
        elif name == "picture":
            self._sources = []

    def _on_text(self, text: str) -> None:
        if self._levels["noscript"] and "<" in text and not self._is_unescaping:  # as plug-ins escape it
            self._is_unescaping = True
            self._feed(text)
            self._is_unescaping = False
        elif text and not text.isspace():
            self._append(text)
            if not self._levels["noscript"]:
                self._neighbour = None

    def _head(self, name: str, values: dict[str, str]) -> None:
        page = self.page
        if name == "html":
            page.language = values.get("lang", "").strip()[:100] or page.language
        elif name == "base":
            href = values.get("href", "").strip()
            page.base = page.base or (href if len(href) <= _MAX_BASE_CHARS else None) or None
        elif name == "meta":
            content = values.get("content", "")
            said = [values[key] for key in ("name", "property") if key in values]
            said += ["robots"] if values.get("http-equiv", "").strip().lower() == "x-robots-tag" else []
            page.metas += [(key, content) for key in said]
            self._social.add(said, content)
        elif name in ("a", "area", "link"):
            rels = values.get("rel", "").lower().split()
            if "next" in rels:
                page.next_url = page.next_url or values.get("href", "").strip() or None
            if "license" in rels and (named := terms(values.get("href"))):
                self._license(named, is_link=name == "link")

    def _license(self, named: str, *, is_link: bool) -> None:
        if is_link:
            self.page.license = self.page.license or named
        elif frame := next((frame for frame in reversed(self._frames) if frame.takes_captions), None):
            frame.license = frame.license or named
        else:
            self._terms.add(named)

    # ---- figures, items, and the texts in them ----

    def _open_frame(self, name: str, values: dict[str, str]) -> None:
        if name in _VOID or len(self._frames) >= _MAX_FRAMES:
            return
        is_image = "itemscope" in values and "imageobject" in values.get("itemtype", "").lower()
        start = len(self.page.pictures)
        self._frames.append(
            Frame(tag=name, level=self._levels[name], start=start, is_image=is_image, is_figure=is_figure(name, values))
        )

    def _close_frame(self) -> Frame:
        frame = self._frames[-1]
        for text in [text for text in self._texts if text.frame is frame]:
            self._close_text(text)
        self._frames.pop()
        frame.close(self.page.pictures, self._frames[-1] if self._frames else None)
        return frame

    def _collect(self, name: str, values: dict[str, str]) -> None:
        """What an element says by its name, its property or its id."""
        figure = next((frame for frame in reversed(self._frames) if frame.is_figure), None)
        if figure is not None and is_caption(name, values):
            self._open_text(name, "caption", figure)
        elif self._frames:
            for prop in values.get("itemprop", "").split()[:8]:
                self._property(prop, name, values, self._frames[-1])
        key = values.get("id")
        if key and key in self._referred and key not in self._by_id:
            self._open_text(name, f"#{key}", None)

    def _property(self, prop: str, name: str, values: dict[str, str], frame: Frame) -> None:
        target = values.get("href") or values.get("content")
        if prop == "contentUrl" and frame.is_image and name != "img":
            frame.content += [candidate._replace(is_original=True) for candidate in plain(target, 0.0)][:1]
        elif prop in _TERMS or (prop in ("caption", "description") and frame.takes_captions):
            if target and (prop in _TERMS or "content" in values):
                frame.say(prop, tidy([target]))
            else:
                self._open_text(name, prop, frame)

    def _open_text(self, tag: str, name: str, frame: Frame | None) -> None:
        if tag not in _VOID and len(self._texts) < _MAX_OPEN:
            self._texts.append(Text(tag=tag, level=self._levels[tag], name=name, frame=frame))

    def _append(self, text: str) -> None:
        for collected in self._texts:
            collected.append(text)

    def _close_text(self, text: Text) -> None:
        self._texts.remove(text)
        said = _REFERENCE.sub("", tidy(text.parts))
        if text.name.startswith("#"):
            self._by_id.setdefault(text.name[1:], said)
        elif text.frame is not None and said:
            text.frame.say(text.name, said)

    # ---- images ----

    def _image(self, name: str, values: dict[str, str]) -> None:
        if len(self.page.pictures) >= _MAX_PICTURES:
            self.page.is_cut = True
            return
        is_drawn = name == "image" and self._levels["svg"] > 0
        if is_drawn:
            values = {"src": values.get("href") or values.get("xlink:href") or ""}
        if name == "object" and not values.get("type", "").lower().startswith("image/"):
            return
        plainly = name in ("object", "video")
        candidates = plain(values.get(_SOURCES[name]), 1.0) if plainly else offered(values)
        if self._levels["picture"] and not plainly:
            candidates += self._sources
            self._sources = []
        if not candidates:
            return
        picture = Picture(
            candidates=[*candidates, *self._linked],
            captions=_captions(values),
            is_tiny=is_tiny(values),
            is_drawn=is_drawn,
            described_by=[key for key in values.get("aria-describedby", "").split()[:8] if "caption" in key.lower()],
            labelled_by=values.get("aria-labelledby", "").split()[:8],
        )
        self._linked = []
        self._add(picture)

    def _add(self, picture: Picture) -> None:
        """Put a picture into its page, or into the one beside it that shows the same with or without scripts."""
        frame = self._frames[-1] if self._frames else None
        is_fallback = self._levels["noscript"] > 0
        if self._neighbour is not None:
            last, was_fallback, its_frame = self._neighbour
            if was_fallback != is_fallback and its_frame is frame and last.is_same(picture):
                last.take(picture)
                self._neighbour = None
                return
        self._neighbour = (picture, is_fallback, frame)
        self.page.pictures.append(picture)
        if frame is not None and not any(text.name == "caption" for text in self._texts):
            frame.own.append(picture)


def _captions(values: dict[str, str]) -> list[str]:
    """What an image says of itself. An empty `alt` says that it is decoration, so its title is no caption."""
    said = [
        values.get("alt"),
        values.get("aria-label"),
        values.get("title") if values.get("alt", "x").strip() else None,
    ]
    return [tidy([text]) for text in said if text]
