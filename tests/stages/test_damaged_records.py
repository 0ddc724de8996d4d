"""pretrain on records that are damaged ends with one line, in training and in evaluation."""

import pytest

from tests.helpers.project import Project, training, write_text


@pytest.mark.slow
def test_training_and_evaluation_name_the_damaged_file(tmp_path):
    project = Project(tmp_path)
    write_text(project.folder / "data/raw")
    project.make_records()
    records = project.folder / "data/records/main"
    for split, message in (
        ("dev", "record 1 has damaged data"),
        ("train", "No such file or directory"),
    ):
        path = sorted((records / split).glob("*.tfrecord"))[-1]
        before = path.read_bytes()
        if split == "dev":
            path.write_bytes(before[:40] + bytes([before[40] ^ 1]) + before[41:])
        else:
            path.unlink()
        output = project.run(*training("models/damaged"), code=1)
        last = output.splitlines()[-1]
        assert "Traceback" not in output
        assert last.startswith("pretrain: error: ") and f"{split}/{path.name}: " in last
        assert message in last and last.endswith("records@main")
        path.write_bytes(before)
    # Nothing of it is left: the run goes on.
    project.run(*training("models/damaged"))
    assert (project.folder / "models/damaged/model.safetensors").exists()
