import numpy as np
import pytest
import torch

from pipeline.manifest import commit
from pipeline.storage import Store, write_parquet
from pipeline.train.data.order import Draw
from pipeline.train.data.rows import Rows
from pipeline.train.heldout import held_out
from pipeline.train.saved import committed, open_saved
from tests.train import tiny
from tests.train.processes import run
from tests.train.test_loop import lines_of

torch.set_num_threads(1)
SAMPLES = 50


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.dataset(tmp_path_factory.mktemp("data")).url


def network():
    torch.manual_seed(0)
    return tiny.Net().eval()


def evaluated(data, micro_batch, samples=SAMPLES):
    settings = tiny.config("torch", micro_batch=micro_batch, eval_samples=samples)
    evaluate = held_out(Rows.committed(Store(data)), tiny.collate, tiny.loss_fn, settings, torch.device("cpu"))
    with torch.no_grad():
        return evaluate(network())


@pytest.mark.parametrize(("world", "micro_batch"), [(1, None), (1, 7), (3, None), (3, 1)])
def test_any_number_of_ranks_and_micro_batches_gives_the_mean_over_all_samples(data, world, micro_batch):
    ids = np.arange(SAMPLES)
    batch = tiny.collate(Rows.committed(Store(data)).take(ids), Draw(3, ids, np.full(SAMPLES, -1)))
    with torch.no_grad():
        loss_sum, weight, sums = tiny.loss_fn(network(), batch)
    expected = {"loss": float(loss_sum / weight), "accuracy": float(sums["accuracy"] / weight)}
    for found in run(evaluated, world, data, micro_batch):
        assert found == pytest.approx(expected, rel=1e-5)


def test_fewer_samples_than_ranks_are_evaluated_too(data):
    assert run(evaluated, 3, data, None, 2)[0] == pytest.approx(evaluated(data, None, 2), rel=1e-5)


def test_a_run_logs_it_and_its_checkpoints_hold_it(data, tmp_path):
    settings = tiny.config("torch", eval_every=4, keep_best="eval/loss")
    evaluate = held_out(Rows.committed(Store(data)), tiny.collate, tiny.loss_fn, settings, torch.device("cpu"))
    tiny.train(settings, data, str(tmp_path), evaluate=evaluate)
    found = {line["step"]: line["eval/loss"] for line in lines_of(tmp_path, "eval/loss")}
    assert list(found) == [4, 8, 12] and found[12] < found[4]
    store = Store(str(tmp_path)).sub("checkpoints")
    saved = {name[:8]: open_saved(store, name).manifest.contents.metrics for name in committed(store)}
    assert saved == {f"{at:08d}": {"eval/loss": found[last]} for at, last in ((5, 4), (10, 8), (12, 12))}


def weightless(model, batch):
    loss_sum, weight, sums = tiny.loss_fn(model, batch)
    return loss_sum, 0 * weight, sums


def test_data_that_nothing_can_be_learned_from_is_refused(data, tmp_path):
    settings, cpu = tiny.config("torch"), torch.device("cpu")
    evaluate = held_out(Rows.committed(Store(data)), tiny.collate, weightless, settings, cpu)
    with pytest.raises(ValueError, match=r"held-out data has no weight: .*; name other data with --held-out"):
        evaluate(network())
    table = Rows.committed(Store(data)).take(np.arange(1)).slice(0, 0)
    commit(Store(str(tmp_path)), "manifest.json", [write_parquet(Store(str(tmp_path)), "none.parquet", table)])
    empty = Rows.committed(Store(str(tmp_path)))
    with pytest.raises(ValueError, match="held-out data has no rows; name other data with --held-out"):
        held_out(empty, tiny.collate, tiny.loss_fn, settings, cpu)
    with pytest.raises(ValueError, match="the dataset has no rows"):
        tiny.train(settings, str(tmp_path), str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"eval_every": 5}, "--train.eval-every is 5, and there is nothing to evaluate on; name data with --held-out"),
        ({"keep_best": "eval/loss"}, "--train.keep-best is eval/loss, and there is nothing to evaluate on"),
        ({"sample_every": 5}, "--train.sample-every is 5, and this network draws nothing by itself"),
    ],
)
def test_what_is_asked_for_and_cannot_be_had_is_refused(data, tmp_path, changes, said):
    with pytest.raises(ValueError, match=said):
        tiny.train(tiny.config("torch", **changes), data, str(tmp_path))
