"""The kinds of axes that a design space may have; `loop.space` has them all."""
