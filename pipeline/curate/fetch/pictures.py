"""A picture of a page: the files that are offered for it, and what is said of it."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.curate.fetch.candidates import Candidate, best, is_hollow, why_not
from pipeline.curate.fetch.columns import word
from pipeline.curate.text.captions import is_filename

_MAX_CAPTION_CHARS = 4_000
"""A figure's caption is that of each picture in it; a page must not grow by that."""
_MAX_TERMS_CHARS = 2_000


@dataclass(kw_only=True, eq=False)
class Picture:
    """`captions` are what stands for one, the likeliest first; `credit` is what else is to be carried along."""

    candidates: list[Candidate]
    captions: list[str] = field(default_factory=list)
    license: str | None = None
    credit: dict[str, str] = field(default_factory=dict)
    is_tiny: bool = False
    is_drawn: bool = False
    described_by: list[str] = field(default_factory=list)
    labelled_by: list[str] = field(default_factory=list)

    @property
    def best(self) -> Candidate:
        """The candidate to fetch."""
        return best(self.candidates)

    @property
    def caption(self) -> str | None:
        """The first of the captions that a person wrote; else the first, for the rules to judge; None if there is
        none. `null`, `undefined` and their like are no captions."""
        texts = [text for caption in self.captions if (text := word(caption[:_MAX_CAPTION_CHARS]))]
        return next((text for text in texts if not is_filename(text)), texts[0] if texts else None)

    @property
    def passed_over(self) -> str | None:
        """Why the picture is not wanted, as a reason code; None if it is."""
        if reason := why_not(self.best):
            return reason
        if self.is_drawn:
            return "picture_svg"
        if self.is_tiny:
            return "picture_hidden"
        return "picture_uncaptioned" if self.caption is None else None

    def is_same(self, other: "Picture") -> bool:
        """True if two elements beside each other, of which one is for browsers without scripts, show one picture."""
        if self.is_tiny or other.is_tiny:
            return False
        mine, its = self.caption, other.caption
        if {c.url for c in self.candidates} & {c.url for c in other.candidates} or (mine and mine == its):
            return True
        is_stand_in = is_hollow(self.candidates) or is_hollow(other.candidates)
        return is_stand_in and (mine is None or its is None)

    def take(self, other: "Picture") -> None:
        """Add what is offered and said of the same picture elsewhere."""
        self.candidates += other.candidates
        self.captions += other.captions
        self.license = self.license or other.license
        self.credit = other.credit | self.credit
        self.described_by += other.described_by
        self.labelled_by += other.labelled_by


def terms(text: str | None) -> str | None:
    """A licence or a credit; None if there is none, or one too long to stand beside every picture."""
    text = word(text)
    return text if text is not None and len(text) <= _MAX_TERMS_CHARS else None


def tidy(texts: Iterable[str]) -> str:
    """One line of what stood in pieces."""
    return " ".join("".join(texts).split())
