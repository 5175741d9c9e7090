"""The table of the demo's site: good things and planted troubles, each where the sources lead."""

from pipeline.demo import corpus, site


def test_sources_name_every_kind_of_listing() -> None:
    assert [kind for kind, _ in site.image_sources()].count("list") == 1
    assert {kind for kind, _ in site.image_sources()} == {"list", "page"}
    assert {kind for kind, _ in site.speech_sources()} == {"feed", "video_page"}
    pictures = len(site.gallery_paths()) * corpus.IMAGES_PER_GALLERY + corpus.LIST_IMAGES
    assert 0 <= pictures - len(corpus.training()[1]) < corpus.IMAGES_PER_GALLERY
