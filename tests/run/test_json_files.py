"""JSON files that users bring."""

import json

from lib.run.json_files import read_object


def test_a_byte_order_mark_is_no_part_of_a_json_file(tmp_path):
    path = tmp_path / "config.json"
    path.write_text("\ufeff" + json.dumps({"a": "é"}), encoding="utf-8")
    assert read_object(path) == {"a": "é"}
