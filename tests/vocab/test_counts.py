"""The file with the words of the training sample by their number of tokens."""

import pytest

from lib.run.errors import UserError
from lib.vocab.counts import read_tokens_per_word, write_tokens_per_word


def test_counts_are_read_as_written_and_nothing_else_is(tmp_path):
    path = tmp_path / "tokens_per_word.csv"
    with pytest.raises(UserError, match=r"tokens_per_word\.csv: no such file; make it again"):
        read_tokens_per_word(path)
    write_tokens_per_word(path, [70, 0, 2])
    assert path.read_text() == "tokens,words\n1,70\n2,0\n3,2\n"
    assert read_tokens_per_word(path).tolist() == [70, 0, 2]
    for text in ("tokens,words\n2,5\n", "tokens,words\n1,x\n", "tokens\n1\n", "a,b\n1,2\n"):
        path.write_text(text)
        with pytest.raises(UserError, match=r"should have the numbers of tokens"):
            read_tokens_per_word(path)
