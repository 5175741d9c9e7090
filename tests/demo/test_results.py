"""The figures as facts, and pictures in their order; `tests/jobs/test_demo` collects a real run."""

import numpy as np

from pipeline.demo import results
from pipeline.records import STATES
from pipeline.storage import Store
from pipeline.tokenize.media import to_png


def test_a_book_keeps_what_went_in_and_every_state() -> None:
    book = {
        "in": 3,
        "kept": 1,
        "dropped": {"x": 2},
        "failed": {},
        "unknown": {},
        "deferred": {},
        "hours": {},
        "bytes": {},
    }
    assert set(results._book(book)) == {"in", *STATES} and results._book(book)["dropped"] == {"x": 2}


def test_facts_stand_beside_what_they_are_compared_with() -> None:
    evaluation = {
        "generation": {
            "digit_accuracy": 0.92,
            "digit_accuracy_low": 0.89,
            "digit_accuracy_high": 0.945,
            "digit_accuracy_real": 0.983,
            "copies": 0.013,
            "near_copies": 0.02,
            "near_copies_real": 0.05,
            "frechet": 65.2,
            "frechet_real": 35.9,
            "n": 360,
        },
        "decoder": {"psnr_db": 28.4, "psnr_db_dvae": 27.9},
        "dvae": {"codebook_usage": 0.6},
        "gpt": {
            "bits_per_code": 4.5,
            "bits_per_code_table": 5.9,
            "bits_per_code_uniform": 9.97,
            "picture_to_text": 0.91,
            "picture_to_text_low": 0.87,
            "picture_to_text_high": 0.93,
            "picture_to_text_chance": 0.1,
        },
    }
    facts = {fact.label: fact for fact in results._facts(evaluation, wall_s=300, peak_rss_gb=4.6)}
    assert (
        facts["generated digits read as asked"].value == "92.0%"
        and "98.3%" in facts["generated digits read as asked"].note
    )
    assert facts["copies among them"].value == "1.3%" and "2.0%" in facts["copies among them"].note
    assert "36" in facts["Fréchet distance to held-out digits"].note and "5.90" in facts["transformer"].note
    assert facts["held-out pictures named right"].note == "87.0% to 93.0%; chance: 10%"
    assert "27.90 dB" in facts["decoder, PSNR on held-out digits"].note and facts["wall time"].value == "5.0 min"


def test_pictures_stand_under_their_prompts_four_of_each(tmp_path) -> None:
    store = Store(str(tmp_path))
    images = np.linspace(-1, 1, 7, dtype=np.float32)[:, None, None, None] * np.ones((1, 1, 8, 8), np.float32)
    results.write_generated(store, images, ["one", "two", "one", "one", "one", "one", "two"])
    made = list(results._generated(store))
    png = [to_png(image) for image in images]
    assert [(g.prompt, g.images) for g in made] == [
        ("one", (png[0], png[2], png[3], png[4])),
        ("two", (png[1], png[6])),
    ]
