"""Parts of a page that are open while it is read: figures, items of microdata, and texts that are collected."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pipeline.curate.fetch.candidates import Candidate
from pipeline.curate.fetch.pictures import Picture, terms

# What WordPress, MediaWiki and Blogger write where HTML has figures and their captions today.
_FIGURES = frozenset({"wp-caption", "gallery-item", "gallerybox", "thumbinner", "tr-caption-container"})
_CAPTIONS = frozenset({"wp-caption-text", "gallery-caption", "gallerytext", "thumbcaption", "tr-caption"})
_MAX_TEXT_CHARS = 10_000


@dataclass(kw_only=True, eq=False)
class Frame:
    """A figure, or an item of microdata (an image's, if `is_image`). Its captions are for the pictures of its `own`,
    its terms for all pictures since the one numbered `start`."""

    tag: str
    level: int
    start: int
    is_image: bool
    is_figure: bool
    own: list[Picture] = field(default_factory=list)
    content: list[Candidate] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    descriptions: list[str] = field(default_factory=list)
    license: str | None = None
    credit: dict[str, str] = field(default_factory=dict)

    @property
    def takes_captions(self) -> bool:
        """True for what a caption may stand in."""
        return self.is_figure or self.is_image

    def say(self, name: str, said: str) -> None:
        """What a property of the frame says."""
        if name == "caption":
            self.captions.append(said)
        elif name == "description":
            self.descriptions.append(said)
        elif name == "license":
            self.license = self.license or terms(said)
        elif text := terms(said):
            self.credit.setdefault(name, text)

    def close(self, pictures: list[Picture], parent: "Frame | None") -> None:
        """Give what was said to the pictures; `pictures` are all of the page so far."""
        if self.content and self.own:
            self.own[0].candidates += self.content
        elif self.content:
            self.own.append(Picture(candidates=self.content))
            pictures.append(self.own[0])
        for place, picture in enumerate(self.own):
            if len(self.captions) == len(self.own):
                picture.captions.insert(0, self.captions[place])
            elif len(self.captions) == 1 or len(self.own) == 1:
                picture.captions[:0] = self.captions
            picture.captions += self.descriptions
        if self.license or self.credit:
            for picture in pictures[self.start :]:
                picture.license = picture.license or self.license
                picture.credit = self.credit | picture.credit
        if parent is not None and not self.is_figure and not self.captions:
            parent.own += self.own


@dataclass(kw_only=True, eq=False)
class Text:
    """Text that is collected: of a property of a frame, or (`#id`) of the element with an id."""

    tag: str
    level: int
    name: str
    frame: Frame | None
    parts: list[str] = field(default_factory=list)
    chars: int = 0

    def append(self, text: str) -> None:
        """More of it; what is too long to be a caption is left out."""
        if self.chars < _MAX_TEXT_CHARS:
            self.parts.append(text[:_MAX_TEXT_CHARS])
            self.chars += len(text)


def is_figure(name: str, values: Mapping[str, str]) -> bool:
    """True for an element that holds pictures and their caption."""
    return name == "figure" or not _FIGURES.isdisjoint(values.get("class", "").split())


def is_caption(name: str, values: Mapping[str, str]) -> bool:
    """True for the caption of a figure."""
    return name == "figcaption" or not _CAPTIONS.isdisjoint(values.get("class", "").split())


def innermost(frames: list[Frame], tags: Iterable[str]) -> Frame | None:
    """The last that was opened by one of these elements."""
    return next((frame for frame in reversed(frames) if frame.tag in tags), None)
