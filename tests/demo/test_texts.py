"""What the voices read: written for the demo, varied, and none of it twice."""

from pipeline.demo import texts


def test_no_sentence_is_read_twice_and_voices_vary() -> None:
    sentences = [sentence for script in texts.SCRIPTS for sentence in script.sentences]
    long = [sentence for sentence in sentences if len(sentence.split()) > 5]
    assert len(long) > 50 and len(set(long)) == len(long)
    assert len({script.name for script in texts.SCRIPTS}) == len(texts.SCRIPTS)
    assert len({script.voice for script in texts.GOOD}) >= 6
