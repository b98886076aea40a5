"""From an engine's name to an engine."""

from whisper_speedup.engines.protocol import Engine
from whisper_speedup.params.engines import RUNG, engine_class, foreign_package
from whisper_speedup.params.profile import MeasureParams


def create(name: str, measure: MeasureParams) -> Engine:
    """The engine called `name`, not loaded yet. Imports only what that engine needs. Raises UserError."""
    kind, params = engine_class(name), measure.of(name)
    engine: Engine = kind(params, name) if name.startswith(RUNG) else kind(params)
    package = foreign_package(name)
    if package is not None:  # else the commit and the source's hash say which code it was
        engine.settings["package"] = package
    return engine
