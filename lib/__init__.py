"""The implementation of the stages, one package per noun; ARCHITECTURE.md has the layers."""
