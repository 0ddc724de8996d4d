"""Saved models: at fixed steps and at the lowest dev loss, the same ones after resuming."""

import math

import pytest

from lib.run.errors import UserError
from lib.train.saving.saved_models import SavedModels


class Model:
    """A model whose file has the number of the step."""

    step = 0

    def write(self, folder):
        (folder / "model.safetensors").write_text(str(self.step))


@pytest.fixture
def model():
    return Model()


def train(saved, model, losses):
    """Runs the steps with these dev losses; None: no evaluation."""
    for step, loss in losses.items():
        model.step = step
        saved.after_step(step, loss)


def published(saved, folder):
    saved.publish(folder)
    return {path.parent.name: path.read_text() for path in folder.rglob("*.safetensors")}


LOSSES = {10: 3.0, 20: None, 30: 2.0, 40: 2.5, 50: 1.0}


def test_models_of_fixed_steps_and_the_best_are_published(tmp_path, model):
    saved = SavedModels(tmp_path / "run", 20, model.write)
    train(saved, model, LOSSES)
    assert published(saved, tmp_path / "out") == {"step-20": "20", "step-40": "40", "best": "50"}
    saved.save_initial(Model().write)
    assert published(saved, tmp_path / "out")["initial"] == "0"
    assert (saved.best_step, saved.best_loss) == (50, 1.0)


def test_a_resumed_run_has_the_models_of_its_checkpoint_whatever_was_saved_later(tmp_path, model):
    saved = SavedModels(tmp_path / "run", 20, model.write)
    train(saved, model, {10: 3.0, 20: None, 30: 2.0})
    state, models = saved.state(), dict(saved.digests)
    train(saved, model, {40: 2.5, 50: 1.0})
    resumed = SavedModels(tmp_path / "run", None, model.write)
    resumed.restore(state, models)
    # Without the evaluation of step 50, and with no more models at fixed steps.
    train(resumed, model, {40: None, 60: 2.2})
    assert published(resumed, tmp_path / "out") == {"step-20": "20", "best": "30"}
    assert resumed.best_step == 30


def test_with_other_dev_sequences_the_best_is_chosen_again(tmp_path, model):
    saved = SavedModels(tmp_path / "run", None, model.write)
    train(saved, model, {10: 1.0})
    saved.best_loss = math.inf
    train(saved, model, {20: 4.0, 30: 5.0})
    assert published(saved, tmp_path / "out") == {"best": "20"}


def test_a_damaged_model_is_not_published(tmp_path, model):
    saved = SavedModels(tmp_path / "run", None, model.write)
    train(saved, model, {10: 1.0})
    (tmp_path / "run/models/best-10/model.safetensors").write_text("11")
    with pytest.raises(UserError, match=r"best-10: damaged .* run the same command again"):
        saved.publish(tmp_path / "out")
    assert not (tmp_path / "out").exists()
