"""Answers and scores from several processes equal those of one."""

import pytest

from palate.data.windows import make_examples
from palate.evaluation.predictors.personalized import PersonalizedPredictor
from palate.system.engines import shard_engine
from palate.tasks import load_task
from tiny import unbound_model


@pytest.fixture(scope="module")
def predictor(tiny_data):
    model = unbound_model(grammar=True, max_new_tokens=48).bind(tiny_data)
    return PersonalizedPredictor(model, "model", batch_size=3)


def test_processes_answer_as_one(predictor, tiny_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task = load_task(predictor.model.settings.task, tiny_data.info)
    examples = make_examples(tiny_data, task, "test", 10, "random", 0)
    alone = predictor.predict(examples.user_index, examples.windows)
    assert len(set(alone)) > 1
    with shard_engine("local", 2) as engine:
        other = predictor.with_model(predictor.model)
        other.engine = engine
        assert other.predict(examples.user_index, examples.windows) == alone
    assert not list(tmp_path.iterdir())
