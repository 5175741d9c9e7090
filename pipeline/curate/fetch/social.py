"""Pictures that a page names for previews of it: Open Graph (`og:image`) and Twitter cards.

Their captions are `og:image:alt` and `twitter:image:alt`; a title is the page's, and no caption of its picture.
"""

from collections.abc import Iterable

from pipeline.curate.fetch.candidates import plain
from pipeline.curate.fetch.pictures import Picture, tidy

_MAX_PICTURES = 100


class Social:
    """Takes the meta tags of a page in their order."""

    def __init__(self) -> None:
        self._pictures: dict[str, list[Picture]] = {"og": [], "twitter": []}
        self._waiting: dict[str, str] = {}  # what was said of a picture that is not named yet

    def add(self, names: Iterable[str], content: str) -> None:
        """One tag: what it calls itself, by `property` or `name`, and what it says."""
        for name in names:
            site, _, what = name.strip().lower().partition(":")
            if site not in self._pictures:
                continue
            pictures = self._pictures[site]
            if what in ("image", "image:url", "image:src", "image:secure_url"):
                self._add_file(site, what, content)
            elif what == "image:alt" and pictures:
                pictures[-1].captions.append(tidy([content]))
            elif what == "image:alt":
                self._waiting[site] = tidy([content])

    def _add_file(self, site: str, what: str, content: str) -> None:
        pictures = self._pictures[site]
        candidates = plain(content, 1.0)
        is_same = what in ("image:url", "image:secure_url") and pictures  # says again where the last one is
        if is_same:
            pictures[-1].candidates += candidates[: 10 - len(pictures[-1].candidates)]
        elif candidates and len(pictures) < _MAX_PICTURES:
            said = self._waiting.pop(site, None)
            pictures.append(Picture(candidates=candidates, captions=[said] if said else []))

    def pictures(self) -> list[Picture]:
        """All of them. Twitter shows `og:image` where it is given none of its own."""
        if (said := self._waiting.get("twitter")) and self._pictures["og"]:
            self._pictures["og"][0].captions.append(said)
        return [*self._pictures["og"], *self._pictures["twitter"]]
