"""Blocks of feeds, where no parser tells whose they are; the cases of consent try them in feeds."""

import time

import pytest

from pipeline.curate.fetch.blocks import Block, blocks_of, is_blocked


def test_blocks_stand_with_the_feed_or_with_their_item():
    text = """<rss><channel><itunes:block>no</itunes:block><title>a<b></title>
    <item><podcast:block id = 'a>b'>Yes</podcast:block></item>
    <item><!-- <itunes:block>yes</itunes:block> --><itunes:block><![CDATA[ yes ]]></itunes:block></item>
    <podcast:block id="&#116;riptych">yes</podcast:block><blockquote>yes</blockquote>"""
    of_all, of_items = blocks_of(text)
    assert of_all == [Block(id=None, value="no"), Block(id="triptych", value="yes")]
    assert [len(item) for item in of_items] == [1, 1] and of_items[1][0].value.strip() == "yes"
    assert is_blocked(of_all) and is_blocked(of_items[1])


@pytest.mark.parametrize(
    "text", ["<a:block " * 10**6, "<a:block>" + " " * 10**7, '<a:block id="' * 10**6, "<!--" * 10**6, "<item " * 10**6]
)
def test_time_is_linear(text):
    began_s = time.process_time()
    blocks_of(text)
    assert time.process_time() - began_s < 15
