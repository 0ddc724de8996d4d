"""The thinking behind the stages, by noun.

Layers: `run` and `params` know nobody; `text`, `vocab`, `records` and `model` do not import each
other's insides; `train` and `interop` stand on `model`; only `stages/` knows them all. TensorFlow
is imported by `model`, `train` and `interop` alone, so that the data stages start at once.
"""
