"""What the bits of the weights depend on: processor, devices, TensorFlow."""

import tensorflow as tf

from lib.train.machine import machine, processor

CPUINFO = """\
processor\t: 0
model name\t: AMD EPYC 7B13
cpu MHz\t\t: {mhz}
flags\t\t: fpu sse sse2 fma sse4_1 avx smep avx2
bugs\t\t: avx_is_no_bug

processor\t: 1
model name\t: AMD EPYC 7B13
flags\t\t: fpu sse sse2 fma sse4_1 avx smep avx2
"""


def test_a_processor_is_its_model_and_its_vector_instructions(tmp_path):
    for mhz in (2449, 3100):  # Which changes all the time.
        (tmp_path / "x86").write_text(CPUINFO.format(mhz=mhz))
        assert processor(tmp_path / "x86") == "AMD EPYC 7B13 (avx avx2 fma sse4_1)"
    (tmp_path / "arm").write_text("processor : 0\nFeatures : fp asimd sve2 crc32\n")
    assert processor(tmp_path / "arm").endswith("(asimd sve2)")
    assert processor(tmp_path / "missing")


def test_the_machine_is_described_by_text_that_is_equal_in_every_process():
    found = machine(tf.distribute.OneDeviceStrategy("/cpu:0"))
    assert found == machine(tf.distribute.OneDeviceStrategy("/cpu:0"))
    assert found["devices"].startswith("1 x ") and found["tensorflow"] == tf.__version__
